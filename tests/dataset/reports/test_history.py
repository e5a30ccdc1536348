"""Earlier operations are read from clinical information, and contrast agents from techniques."""

import pytest

from ct_rate_pairs.reports.history import read_contrast, read_surgery


@pytest.mark.parametrize(
    "text",
    [
        "Operated lung cancer.",
        "Breast Ca, mastectomy in 2015.",
        "Post-op control",
        "Status post right upper lobectomy",
        "No fever since surgery.",
        "History of CABG.",
        "Renal transplantation.",
        "No cough. Resection of a nodule two years ago.",
        "右上肺切除术后",
        "肺癌术后复查。",
        "冠脉搭桥史",
    ],
)
def test_an_earlier_operation_is_told(text):
    assert read_surgery(text) == "told"


@pytest.mark.parametrize(
    "text",
    [
        "Cough for two weeks.",
        "No history of surgery.",
        "Never operated, smoker.",
        "Preoperative evaluation.",
        "Scheduled for lobectomy.",
        "Before the operation, nodule?",
        "Lobectomy is planned.",
        "Referred by the surgery clinic.",
        "Anatomy and cooperation normal.",
        "Inoperable tumour.",
        "否认手术史。",
        "拟行肺叶切除术",
        "术前评估",
        "咳嗽。",
    ],
)
def test_what_is_denied_planned_or_something_else_is_not(text):
    assert read_surgery(text) == "not_told"


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        ("Non-contrast.", "none"),
        ("Images were taken in the axial plane with a section thickness of 1.5 mm without contrast.", "none"),
        ("Without IV contrast material, 1 mm sections.", "none"),
        ("Unenhanced chest CT", "none"),
        ("Contrast agent was not given.", "none"),
        ("Before IVCM.", "none"),
        ("Oral contrast was given, no intravenous contrast.", "none"),
        ("胸部 CT 轴位平扫，层厚 1.5 mm。", "none"),
        ("未注射造影剂", "none"),
        ("After IV contrast injection.", "given"),
        ("Before and after IVCM.", "given"),
        ("Without and with contrast.", "given"),
        ("Pre-contrast and post-contrast images.", "given"),
        ("In the arterial and venous phases.", "given"),
        ("胸部 CT 平扫加增强", "given"),
        ("Contrast-enhanced, arterial phase.", "arterial"),
        ("CT angiography of the pulmonary arteries", "arterial"),
        ("CTPA", "arterial"),
        ("增强动脉期", "arterial"),
        ("Intravenous contrast, portal venous phase.", "venous"),
        ("Delayed phase after contrast.", "late"),
        ("Multidetector CT, 1.5 mm.", None),
        ("Oral contrast was given.", None),
    ],
)
def test_the_contrast_agent_of_a_technique(text, contrast):
    assert read_contrast(text) == contrast
