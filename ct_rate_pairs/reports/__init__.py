"""What a report says: its labels, its sentences, the places of its findings, and its statements made wrong."""

from pathlib import Path


# The files that decide on the labels of a report. They are hashed beside labels that come from reports, and shipped
# beside the `evaluate` scripts. Nothing is imported here, so that `import ct_rate_pairs` stays light.
LABELER = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in (
        *("chinese_rules", "chinese_terms", "clauses", "labels", "negations", "plain_sentences", "readable", "rules"),
        *("sentence_spans", "terms"),
    )
)
