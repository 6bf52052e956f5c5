"""Supervised fine-tuning: answers, chat templates, adapters."""
