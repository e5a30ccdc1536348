"""
What the fields of the JSON files may be that come from a model on the Hub, or decide about files and models here. Each
file has the schemas of one thing.

Unknown fields are ignored unless the schema forbids them. The settings of rows are checked by their own options, see
[`~ct_rate_pairs.trainer.row_settings`].
"""
