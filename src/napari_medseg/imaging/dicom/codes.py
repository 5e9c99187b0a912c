"""Coded names of what a label marks (SNOMED CT where the word is known), and the word of a code."""

from __future__ import annotations

from dataclasses import dataclass

# Property categories of DICOM's context group 7150.
_ABNORMAL = ("49755003", "Morphologically Altered Structure")
_ANATOMICAL = ("123037004", "Anatomical Structure")

_ABNORMAL_TYPES = {
    "lesion": ("52988006", "Lesion"),
    "nodule": ("27925004", "Nodule"),
    "mass": ("4147007", "Mass"),
    "tumor": ("108369006", "Neoplasm"),
    "tumour": ("108369006", "Neoplasm"),
    "neoplasm": ("108369006", "Neoplasm"),
    "gtv": ("86049000", "Neoplasm, Primary"),
    "metastasis": ("14799000", "Neoplasm, Secondary"),
    "necrosis": ("6574001", "Necrosis"),
    "edema": ("79654002", "Edema"),
    "oedema": ("79654002", "Edema"),
    "hemorrhage": ("50960005", "Hemorrhage"),
    "haemorrhage": ("50960005", "Hemorrhage"),
    "cyst": ("367643001", "Cyst"),
    "infarct": ("55641003", "Infarct"),
    "abscess": ("44132006", "Abscess"),
    "calcification": ("54115008", "Pathologic calcification"),
    "thrombus": ("396339007", "Thrombus"),
    "plaque": ("1522000", "Plaque"),
}
_ANATOMICAL_TYPES = {
    "liver": ("10200004", "Liver"),
    "spleen": ("78961009", "Spleen"),
    "kidney": ("64033007", "Kidney"),
    "pancreas": ("15776009", "Pancreas"),
    "lung": ("39607008", "Lung"),
    "heart": ("80891009", "Heart"),
    "aorta": ("15825003", "Aorta"),
    "brain": ("12738006", "Brain"),
    "hippocampus": ("5366008", "Hippocampus"),
    "prostate": ("41216001", "Prostate"),
    "bladder": ("89837001", "Urinary bladder"),
    "stomach": ("69695003", "Stomach"),
    "esophagus": ("32849002", "Esophagus"),
    "oesophagus": ("32849002", "Esophagus"),
    "trachea": ("44567001", "Trachea"),
    "muscle": ("71616004", "Skeletal muscle"),
    "bone": ("272673000", "Bone"),
    "breast": ("76752008", "Breast"),
    "thyroid": ("69748006", "Thyroid"),
    "gallbladder": ("28231008", "Gallbladder"),
    "colon": ("71854001", "Colon"),
}


@dataclass(frozen=True, slots=True)
class Code:
    """A code value, its scheme and its meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class SegmentCodes:
    """Category (abnormal or anatomical) and type of a segment."""

    category: Code
    type: Code


def codes_of(name: str) -> SegmentCodes:
    """Codes of a label's name: by the last word of it that is known, else a lesion.

    ``"Lesion 2"`` is a lesion, ``"left lung nodule"`` a nodule, ``"left lung"`` a lung. The label's own name is always
    stored beside the code, so nothing is lost where the word is not known.
    """
    for word in reversed(name.lower().replace("_", " ").replace("-", " ").split()):
        for singular in (word, word.removesuffix("s")):
            if singular in _ABNORMAL_TYPES:
                return _segment_codes(_ABNORMAL, _ABNORMAL_TYPES[singular])
            if singular in _ANATOMICAL_TYPES:
                return _segment_codes(_ANATOMICAL, _ANATOMICAL_TYPES[singular])
    return _segment_codes(_ABNORMAL, _ABNORMAL_TYPES["lesion"])


def _segment_codes(category: tuple[str, str], kind: tuple[str, str]) -> SegmentCodes:
    return SegmentCodes(Code(category[0], "SCT", category[1]), Code(kind[0], "SCT", kind[1]))
