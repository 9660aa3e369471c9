"""Arrow shards of generated rows: schema, tables, writer, reader, exports. Needs pyarrow, not Ray."""

from posegen.shards.export import export_hf, export_spin
from posegen.shards.folder import Folder
from posegen.shards.reader import Shards, read_shard, read_shards
from posegen.shards.schema import LABELS, SCHEMA_VERSION, schema
from posegen.shards.table import rows_to_table, table_to_scene, table_to_tensors
from posegen.shards.writer import Plan, ShardEntry, ShardWriter, write_manifest, write_shard

__all__ = [
    "LABELS",
    "SCHEMA_VERSION",
    "Folder",
    "Plan",
    "ShardEntry",
    "ShardWriter",
    "Shards",
    "export_hf",
    "export_spin",
    "read_shard",
    "read_shards",
    "rows_to_table",
    "schema",
    "table_to_scene",
    "table_to_tensors",
    "write_manifest",
    "write_shard",
]
