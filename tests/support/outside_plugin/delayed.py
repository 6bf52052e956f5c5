"""A schedule around a schedule."""


def build(config, context):
    """A tenth of the peak, then the schedule inside."""
    inside = context.component("schedule", config.schedule)
    return lambda progress: inside(progress) * (0.1 if progress.step < config.steps else 1)
