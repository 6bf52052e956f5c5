"""Public names of the kit, each with the module that defines it."""

from .contracts import (
    check_component as check_component,
)
from .declarations import (
    check_plugin as check_plugin,
    check_readme as check_readme,
)
from .documents import (
    processed as processed,
)
from .objectives.external_loop import (
    EVENT as EVENT,
    require_figures as require_figures,
)
from .requirements import (
    require as require,
    require_json as require_json,
)
from .standalone import (
    FinishedRun as FinishedRun,
    StandAloneContext as StandAloneContext,
    run_spec as run_spec,
    tiny_model as tiny_model,
    train_tiny as train_tiny,
)
from .training import (
    LENGTH as LENGTH,
    Learner as Learner,
    check_sums as check_sums,
    examples_of as examples_of,
    frozen_beside as frozen_beside,
    move as move,
    unbatched as unbatched,
)
