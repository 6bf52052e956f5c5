"""Personal and secret data in documents."""
