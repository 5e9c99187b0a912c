"""The dock's looks, taken from napari's theme: one accent, quiet lines, one spacing."""

from __future__ import annotations

from dataclasses import dataclass

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

GAP = 6
INDENT = 12


@dataclass(frozen=True)
class Look:
    """Colours of the dock, ``#rrggbb`` each."""

    text: str
    dim: str
    faint: str
    line: str
    panel: str
    control: str
    hover: str
    accent: str
    on_accent: str
    warning: str
    good: str

    @classmethod
    def of(cls, theme_name: str) -> Look:
        """Return the looks that go with one of napari's themes."""
        theme = get_theme(theme_name)
        is_dark = theme.type == "dark"
        back, text = _hex(theme.background), _hex(theme.text)
        return cls(
            text=text,
            dim=_mix(text, back, 0.38),
            faint=_mix(text, back, 0.66),
            line=_mix(text, back, 0.84),
            panel=_mix(text, back, 0.95),
            control=_mix(text, back, 0.86),
            hover=_mix(text, back, 0.76),
            accent="#2f8fff" if is_dark else "#1668d4",
            on_accent="#ffffff",
            warning="#f2b84b" if is_dark else "#9a6200",
            good="#4ccb7a" if is_dark else "#1d7f45",
        )


def stylesheet(look: Look) -> str:
    """Return the dock's style sheet; it reaches nothing outside of the dock."""
    return f"""
#medseg, #medseg QScrollArea, #medseg #steps {{ background: transparent; border: none; }}
#medseg QLabel {{ color: {look.text}; background: transparent; padding: 0; margin: 0; }}
#medseg QLabel[role="dim"] {{ color: {look.dim}; }}
#medseg QLabel[role="warning"] {{ color: {look.warning}; }}
#medseg QLabel[role="good"] {{ color: {look.good}; }}
#medseg QLabel[role="title"] {{ font-weight: 600; }}
#medseg QLabel[role="number"] {{
    background: {look.control}; color: {look.dim}; border-radius: 10px; font-weight: 600;
}}
#medseg QLabel[role="number"][live="true"] {{ background: {look.accent}; color: {look.on_accent}; }}
#medseg QFrame[role="step"] {{ border: none; border-bottom: 1px solid {look.line}; border-radius: 0; }}
#medseg QWidget[role="header"] {{ background: transparent; }}
#medseg QPushButton, #medseg QToolButton {{
    background: {look.control}; color: {look.text}; border: 1px solid transparent; border-radius: 4px; padding: 5px 8px;
    min-height: 16px;
}}
#medseg QPushButton:hover, #medseg QToolButton:hover {{ background: {look.hover}; }}
#medseg QPushButton:disabled, #medseg QToolButton:disabled {{ color: {look.faint}; background: {look.panel}; }}
#medseg QPushButton:checked, #medseg QToolButton:checked {{ background: {look.accent}; color: {look.on_accent}; }}
#medseg QPushButton:focus, #medseg QToolButton:focus {{ border: 1px solid {look.accent}; }}
#medseg QPushButton[role="main"] {{ background: {look.accent}; color: {look.on_accent}; font-weight: 600; }}
#medseg QPushButton[role="main"]:hover {{ background: {_mix(look.accent, "#ffffff", 0.14)}; }}
#medseg QPushButton[role="main"]:disabled {{ background: {look.panel}; color: {look.faint}; }}
#medseg QPushButton[role="act"] {{
    background: transparent; color: {look.accent}; border: 1px solid {look.accent}; font-weight: 600;
}}
#medseg QPushButton[role="act"]:hover {{ background: {look.control}; }}
#medseg QPushButton[role="act"]:disabled {{ color: {look.faint}; border: 1px solid {look.line}; }}
#medseg QPushButton[role="class"] {{ text-align: left; background: {look.panel}; border: 1px solid {look.line}; }}
#medseg QPushButton[role="class"]:hover {{ background: {look.control}; }}
#medseg QPushButton[role="class"]:checked {{ background: {look.accent}; color: {look.on_accent}; }}
#medseg QToolButton[role="picture"] {{ background: {look.panel}; padding: 3px 0; }}
#medseg QToolButton[role="picture"]:hover {{ background: {look.hover}; }}
#medseg QTabBar {{ background: transparent; border: none; }}
#medseg QTabBar::tab {{
    background: transparent; color: {look.dim}; border: none; border-bottom: 2px solid transparent;
    padding: 7px 4px 5px 4px; margin: 0 8px;
}}
#medseg QTabBar::tab:hover {{ color: {look.text}; }}
#medseg QTabBar::tab:selected {{ color: {look.text}; border-bottom: 2px solid {look.accent}; }}
#medseg QDoubleSpinBox {{
    background: {look.panel}; color: {look.text}; border: 1px solid {look.line}; border-radius: 4px; padding: 3px 6px;
}}
#medseg QToolButton[role="plain"] {{ background: transparent; padding: 2px; min-height: 0; }}
#medseg QToolButton[role="plain"]:hover {{ background: {look.control}; }}
#medseg QLineEdit, #medseg QComboBox {{
    background: {look.panel}; color: {look.text}; border: 1px solid {look.line}; border-radius: 4px; padding: 4px 6px;
}}
#medseg QLineEdit:focus, #medseg QComboBox:focus {{ border: 1px solid {look.accent}; }}
#medseg QListWidget {{
    background: {look.panel}; color: {look.text}; border: 1px solid {look.line}; border-radius: 4px; outline: 0;
}}
#medseg QListWidget::item {{ background: transparent; border-radius: 4px; }}
#medseg QListWidget::item:hover, #medseg QListWidget::item:selected {{
    background: {look.control}; color: {look.text};
}}
#medseg QTableWidget {{
    background: {look.panel}; color: {look.text}; border: 1px solid {look.line}; border-radius: 4px;
    gridline-color: transparent;
    selection-background-color: {look.control}; selection-color: {look.text}; outline: 0;
}}
#medseg QTableWidget::item {{ padding: 2px 4px; border: none; }}
#medseg QTableWidget::item:selected {{ background: {look.control}; color: {look.text}; }}
#medseg QProgressBar {{ background: {look.line}; border: none; border-radius: 1px; max-height: 3px; min-height: 3px; }}
#medseg QProgressBar::chunk {{ background: {look.accent}; border-radius: 1px; }}
#medseg QScrollBar:vertical {{ background: transparent; width: 8px; margin: 0; border: none; }}
#medseg QScrollBar::handle:vertical {{ background: {look.hover}; border-radius: 3px; min-height: 30px; margin: 1px; }}
#medseg QScrollBar::add-line:vertical, #medseg QScrollBar::sub-line:vertical {{ height: 0; width: 0; border: none; }}
#medseg QScrollBar::add-page:vertical, #medseg QScrollBar::sub-page:vertical {{ background: transparent; }}
#medseg #footer {{ border: none; border-top: 1px solid {look.line}; }}
#medseg QFrame[role="card"] {{ border: 1px solid {look.warning}; border-radius: 6px; background: {look.panel}; }}
#medseg #drop {{ border: 1px dashed {look.faint}; border-radius: 6px; background: {look.panel}; }}
#medseg #drop[over="true"] {{ border: 1px dashed {look.accent}; background: {look.control}; }}
"""


def _hex(colour: object) -> str:
    rgb = colour.as_rgb_tuple()[:3] if hasattr(colour, "as_rgb_tuple") else QColor(str(colour)).getRgb()[:3]
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _mix(colour: str, other: str, share: float) -> str:
    a, b = QColor(colour), QColor(other)
    mixed = (round(x + (y - x) * share) for x, y in zip(a.getRgb()[:3], b.getRgb()[:3], strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)
