"""MetaSpore's names in a search space: those that have a different name here, and those that mean nothing here.

They come from its tuners' files (Wide & Deep, Swing, SimpleX), from its models' own files, and from LightGBM's
parameters as its files spell them. A name in neither table is refused: it may be a misspelt setting.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


def _keep(value: Any) -> Any:
    return value


def _without_output(value: Any) -> Any:
    """MetaSpore's `deep_hidden_units` ends with the output layer of one unit; here that is not a hidden layer."""
    return value[:-1] if isinstance(value, list) and value[-1:] == [1] else value


def _exponent(value: Any) -> Any:
    """With plain weights all users count equally, |I_u|^0; without them a user counts |I_u|^-0.5."""
    return {True: 0.0, False: 0.5}[value] if isinstance(value, bool) else value


@dataclass(frozen=True)
class Renamed:
    """A setting that has a different name here.

    Attributes:
        own: its names here; a model has one of them.
        why: the meaning of both names.
        convert: from one of MetaSpore's values to ours.
    """

    own: tuple[str, ...]
    why: str
    convert: Callable[[Any], Any] = _keep


RENAMED = {
    "batch_size": Renamed(("batch",), "rows per step"),
    "embedding_size": Renamed(("embedding", "width"), "floats of an embedding"),
    "vector_embedding_size": Renamed(("width",), "floats of a vector"),
    "deep_hidden_units": Renamed(("hidden",), "widths of the deep part's layers", _without_output),
    "dnn_hidden_units": Renamed(("hidden",), "widths of the deep part's layers", _without_output),
    "adam_learning_rate": Renamed(("learning_rate",), "step size of Adam"),
    "training_epoches": Renamed(("epochs",), "passes over the train rows"),
    "_negative_sample_count": Renamed(("sampled",), "negatives of SimpleX's loss"),
    "_w": Renamed(("negative_weight",), "w of SimpleX's loss"),
    "_m": Renamed(("margin",), "m of SimpleX's loss"),
    "gamma": Renamed(("user_share",), "g of SimpleX's user tower"),
    "g": Renamed(("user_share",), "g of SimpleX's user tower"),
    "smoothing_coefficient": Renamed(("alpha",), "alpha of Swing"),
    "use_plain_weight": Renamed(("activity",), "how much active users are damped in Swing", _exponent),
    "max_recommendation_count": Renamed(("top_n",), "neighbours of an item"),
    "learningRate": Renamed(("learning_rate",), "LightGBM's learning_rate"),
    "numLeaves": Renamed(("leaves",), "LightGBM's num_leaves"),
    "num_leaves": Renamed(("leaves",), "LightGBM's num_leaves"),
    "minDataInLeaf": Renamed(("min_rows",), "LightGBM's min_data_in_leaf"),
    "min_data_in_leaf": Renamed(("min_rows",), "LightGBM's min_data_in_leaf"),
    "lambdaL2": Renamed(("l2",), "LightGBM's lambda_l2"),
    "lambda_l2": Renamed(("l2",), "LightGBM's lambda_l2"),
    "featureFraction": Renamed(("feature_fraction",), "LightGBM's feature_fraction"),
    "maxBin": Renamed(("bins",), "LightGBM's max_bin"),
    "max_bin": Renamed(("bins",), "LightGBM's max_bin"),
}
# Names that are accepted but not used, by the reason.
_UNUSED_BY_REASON = {
    "the run has its own name": "app_name|cd app_name|experiment_name|model_version",
    "the asset reads its own data": "dataset|input_label_column_index|item_ids_column_indices|user_id_column_name|"
    "item_id_column_name|last_item_col_name|behavior_column_name|behavior_filter_value|key_column_name|"
    "value_column_name",
    "the features are the profile's": "column_name_path|combine_schema_path|wide_combine_schema_path|"
    "user_column_name|user_combine_schema|interacted_items_combine_schema|item_column_name|item_combine_schema|"
    "itemdb_column_name|itemdb_combine_schema",
    "the results are in the lake and at result_path": "local_result_path|model_in_path|model_out_path|"
    "model_export_path|swing_out_path|item_cf_out_path",
    "training is one process on this machine": "py_files|local|worker_count|server_count|worker_cpu|server_cpu|"
    "worker_memory|server_memory|coordinator_memory|spark_sql_shuffle_partitions|numThreads|num_threads",
    "progress is reported after each epoch": "metric_update_interval|verbosity|use_debug",
    "the lists are judged at 20": "retrieval_item_count",
    "the wide part is always there": "use_wide",
    "all weights are trained by Adam, with the setting l2": "ftrl_learning_rate|ftrl_smothing_rate|"
    "ftrl_smoothing_rate|ftrl_l1_regularization|ftrl_l2_regularization",
    "rows are in a new random order in each epoch": "shuffle_training_dataset",
    "the network has no such part": "net_dropout|batch_norm",
    "all vectors have one width": "item_embedding_size",
    "the validation AUC decides how many trees there are": "numIterations|num_iterations|earlyStoppingRound|"
    "early_stopping_round",
    "the trees have one form, objective and metric": "boostingType|boosting|objective|metric|isUnbalance|is_unbalance|"
    "lambdaL1|lambda_l1|maxDepth|max_depth|minSumHessianInLeaf|min_sum_hessian_in_leaf|minGainToSplit|"
    "min_gain_to_split|baggingFraction|bagging_fraction|baggingFreq|bagging_freq",
}
UNUSED = {name: why for why, names in _UNUSED_BY_REASON.items() for name in names.split("|")}
SHORTENED = "..."  # its documents' mark for omitted lines


def describe_unused(unused: Mapping[str, str]) -> str:
    """One line that lists the names that are not used, with the reasons."""
    reasons: dict[str, list[str]] = {}
    for name, why in unused.items():
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())


def unused_names(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that mean nothing here, with the reasons."""
    return {name: UNUSED[name] for name in names if name in UNUSED}
