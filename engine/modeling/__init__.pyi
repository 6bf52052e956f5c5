"""Public helpers for models, objectives and inference, each name with the module that defines it."""

from .chat_tokens import (
    answer_example as answer_example,
    conversation_pieces as conversation_pieces,
    end_of_turn as end_of_turn,
    ends as ends,
    example_tokens as example_tokens,
    prompt_tokens as prompt_tokens,
    readable as readable,
)
from .encoding import (
    TAIL as TAIL,
    boundary as boundary,
    continuation as continuation,
    document_tokens as document_tokens,
    opened as opened,
)
from .heads import (
    ObjectiveModule as ObjectiveModule,
    attend as attend,
    backbone as backbone,
    compile_layers as compile_layers,
    context_of as context_of,
    document_rows as document_rows,
    head as head,
    hidden_states as hidden_states,
    is_marked as is_marked,
    is_scalar as is_scalar,
    labelled_rows as labelled_rows,
    layers as layers,
    loss_terms as loss_terms,
    mark_bounds as mark_bounds,
    padded as padded,
    place as place,
    plain_head as plain_head,
    reads_packed as reads_packed,
    recompute_layers as recompute_layers,
    scalar_head as scalar_head,
    through as through,
    with_scalar_head as with_scalar_head,
)
from .loss_chunks import (
    chunked_loss as chunked_loss,
)
from .model_check import (
    examine as examine,
)
from .optimizer_groups import (
    average_decay as average_decay,
    parameter_groups as parameter_groups,
)
from .output_head import (
    LogitMap as LogitMap,
    head_parts as head_parts,
    mapped_head as mapped_head,
)
from .packing import (
    IGNORE as IGNORE,
    join as join,
    pack as pack,
)
from .parameter_terms import (
    ParameterTerms as ParameterTerms,
)
from .rendering import (
    Piece as Piece,
    RecordError as RecordError,
)
from .request_rows import (
    ScoredRow as ScoredRow,
    scored_rows as scored_rows,
)
from .scalars import (
    read_scalars as read_scalars,
)
from .scores import (
    RewardSum as RewardSum,
    ratio as ratio,
)
from .small_model import (
    small_copy as small_copy,
)
from .token_loss import (
    cross_entropy as cross_entropy,
    label_places as label_places,
    token_logprobs as token_logprobs,
)
from .weight_types import (
    for_training as for_training,
)
