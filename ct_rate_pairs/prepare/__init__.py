"""Makes a prepared copy of a source: Parquet shards that `load_dataset("ct_rate_pairs", data_dir=...)` reads."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"shards": ["prepare"]})
