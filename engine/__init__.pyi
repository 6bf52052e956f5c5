"""The public names, each with the module that defines it: read when a name is first used."""

from .cli.options import (
    allow_option as allow_option,
    block_option as block_option,
    json_option as json_option,
    set_option as set_option,
    spec_argument as spec_argument,
    stage_argument as stage_argument,
)
from .contracts.amounts import (
    Amount as Amount,
    Count as Count,
    Number as Number,
    Share as Share,
    VariableName as VariableName,
)
from .contracts.batch import (
    Batch as Batch,
    Example as Example,
    ForwardPass as ForwardPass,
    Loss as Loss,
    Penalty as Penalty,
    Window as Window,
)
from .contracts.callback import (
    Callback as Callback,
    RollBack as RollBack,
    Stop as Stop,
)
from .contracts.component import (
    Architecture as Architecture,
    Component as Component,
    Precision as Precision,
    Schema as Schema,
)
from .contracts.component_config import (
    DataSourceConfig as DataSourceConfig,
    EvaluatorConfig as EvaluatorConfig,
    InferenceConfig as InferenceConfig,
    ObjectiveConfig as ObjectiveConfig,
    OptimizerConfig as OptimizerConfig,
    OptimizerWrapperConfig as OptimizerWrapperConfig,
    PenaltyConfig as PenaltyConfig,
    PenaltyInput as PenaltyInput,
    RewardConfig as RewardConfig,
    StrategyConfig as StrategyConfig,
    TokenizerConfig as TokenizerConfig,
)
from .contracts.config import (
    Config as Config,
    Need as Need,
    Of as Of,
    StageRef as StageRef,
    runtime as runtime,
)
from .contracts.context import (
    Artifact as Artifact,
    Context as Context,
    Problem as Problem,
    Situation as Situation,
)
from .contracts.data import (
    Corpus as Corpus,
    CorpusStep as CorpusStep,
    Dataset as Dataset,
    DataSource as DataSource,
    Executor as Executor,
    Lost as Lost,
    Processor as Processor,
    TokenizerTrainer as TokenizerTrainer,
)
from .contracts.feed import (
    Feed as Feed,
    FeedSetup as FeedSetup,
    State as State,
    Taken as Taken,
    micro_batches as micro_batches,
)
from .contracts.hooks import (
    hookimpl as hookimpl,
)
from .contracts.language_model import (
    Generation as Generation,
    Inference as Inference,
    LanguageModel as LanguageModel,
    LogLikelihood as LogLikelihood,
    OwnRequest as OwnRequest,
    Response as Response,
    Rolling as Rolling,
    Rollout as Rollout,
    Value as Value,
)
from .contracts.model_config import (
    ModelConfig as ModelConfig,
)
from .contracts.model_sizes import (
    LOGITS as LOGITS,
    RECOMPUTED as RECOMPUTED,
    SEQUENCE as SEQUENCE,
    BatchWork as BatchWork,
    Beside as Beside,
    ForwardFlops as ForwardFlops,
    Layout as Layout,
    ModelShape as ModelShape,
    Parameters as Parameters,
    Recompute as Recompute,
    Scores as Scores,
    TextLength as TextLength,
    micro_rows as micro_rows,
    parameter_count as parameter_count,
    rank_parameters as rank_parameters,
)
from .contracts.objective import (
    ExternalLoop as ExternalLoop,
    Job as Job,
    Objective as Objective,
)
from .contracts.optimizer import (
    Adapter as Adapter,
    Optimizers as Optimizers,
    Progress as Progress,
    Schedule as Schedule,
)
from .contracts.records import (
    Bad as Bad,
    Chat as Chat,
    Completion as Completion,
    Labelled as Labelled,
    Messages as Messages,
    Preference as Preference,
    Prompt as Prompt,
    Record as Record,
    Said as Said,
    Stepwise as Stepwise,
    Text as Text,
    Tools as Tools,
    record_from_row as record_from_row,
    record_or_bad as record_or_bad,
    record_to_row as record_to_row,
)
from .contracts.scoring import (
    BenchmarkTexts as BenchmarkTexts,
    Evaluator as Evaluator,
    Item as Item,
    ItemTexts as ItemTexts,
    Reward as Reward,
    Sample as Sample,
    Score as Score,
    score_interval as score_interval,
    score_text as score_text,
    seed_of as seed_of,
)
from .contracts.spec import (
    Spec as Spec,
    Train as Train,
)
from .contracts.strategy import (
    Setup as Setup,
    Step as Step,
    Strategy as Strategy,
)
from .data.corpus.each import (
    each as each,
)
from .data.corpus.provenance import (
    DocumentWay as DocumentWay,
    clean_corpus as clean_corpus,
    document_ways as document_ways,
)
from .data.holdout import (
    is_held_out as is_held_out,
)
from .data.pieces import (
    pieces_of as pieces_of,
)
from .deadline import (
    time_limit as time_limit,
)
from .errors import (
    EngineError as EngineError,
    FieldError as FieldError,
    RunError as RunError,
    SpecError as SpecError,
)
from .event_log import (
    event_line as event_line,
    score_name as score_name,
)
from .files.matching import (
    neighbours as neighbours,
)
from .files.reading import (
    json_of as json_of,
    read_json as read_json,
    read_regular as read_regular,
)
from .modeling.pretrained import (
    file_fault as file_fault,
    kernel_of as kernel_of,
    loading_fault as loading_fault,
    pretrained_tokenizer as pretrained_tokenizer,
    tokenizer_fault as tokenizer_fault,
)
from .modeling.small_config import (
    shrunk_config as shrunk_config,
)
from .registry import (
    Plugins as Plugins,
)
from .runs.corpus_trial import (
    try_corpus as try_corpus,
)
from .runs.finished_stage import (
    OpenedStage as OpenedStage,
    open_stage as open_stage,
)
from .spec.architectures import (
    missing_plugin as missing_plugin,
    register_architectures as register_architectures,
)
from .spec.loading import (
    Loaded as Loaded,
    load_spec as load_spec,
)
from .spec.model_origin import (
    model_of as model_of,
    shape_of as shape_of,
)
from .spec.paths import (
    misplaced as misplaced,
)
from .spec.permissions import (
    host_of as host_of,
    is_loopback as is_loopback,
    network_need as network_need,
    secret_need as secret_need,
)
from .storage.manifest import (
    write_durably as write_durably,
)
from .storage.run_follower import (
    RunFollower as RunFollower,
    read_run as read_run,
)
from .storage.run_history import (
    RunHistory as RunHistory,
    StageHistory as StageHistory,
)
from .terminal.console import (
    Terminal as Terminal,
)
from .terminal.output import (
    cleaned as cleaned,
    write_cleaned as write_cleaned,
)
from .training.batch_flops import (
    Readers as Readers,
    batch_flops as batch_flops,
    readers_of as readers_of,
)
from .training.flops import (
    Flops as Flops,
    flops_from as flops_from,
    pass_flops as pass_flops,
    token_flops as token_flops,
)
from .training.forward_flops import (
    forward_flops as forward_flops,
)
from .training.scaling_law import (
    PUBLISHED_LAWS as PUBLISHED_LAWS,
    REPEATS as REPEATS,
    FittedLaw as FittedLaw,
    ScalingLaw as ScalingLaw,
    effective_tokens as effective_tokens,
)
from .training.tensor_blocks import (
    holds_experts as holds_experts,
    tensor_styles as tensor_styles,
)
