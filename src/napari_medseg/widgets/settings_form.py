"""A form over a settings model: its titles, descriptions and ranges, and nothing said twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from magicgui.widgets import Container, FloatSpinBox, LineEdit
from pydantic import ValidationError

from napari_medseg.errors import MedSegError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from qtpy.QtWidgets import QWidget

_AUTOMATIC = "automatic"


class SettingsForm:
    """Some fields of a settings model; what is left as it was is not passed on.

    Parameters
    ----------
    settings : type of BaseModel
        The model whose fields are shown.
    names : sequence of str
        Which of them, from top to bottom: numbers and texts.
    """

    def __init__(self, settings: type[BaseModel], names: Sequence[str]) -> None:
        self.settings, self.names = settings, tuple(names)
        self._container = Container(widgets=[self._editor(name) for name in self.names], labels=True)
        self._container.margins = (0, 0, 0, 0)

    def __getitem__(self, name: str) -> Any:
        """The editor of a field."""
        return self._container[name]

    @property
    def native(self) -> QWidget:
        """The Qt widget."""
        return self._container.native

    def arguments(self) -> tuple[str, ...]:
        """Command-line options for every field that was changed.

        Raises
        ------
        MedSegError
            If a value is none, or out of its range.
        """
        changed = {name: self._value(name) for name in self.names if self._value(name) is not None}
        try:
            checked = self.settings(**changed)
        except ValidationError as error:
            first = error.errors()[0]
            title = self.settings.model_fields[str(first["loc"][0])].title
            raise MedSegError(f"'{title}' cannot be {first['input']}: {first['msg']}") from error
        fields = self.settings.model_fields
        given = [(n, getattr(checked, n)) for n in changed if getattr(checked, n) != fields[n].default]
        return tuple(part for name, value in given for part in (f"--{name.replace('_', '-')}", str(value)))

    def _editor(self, name: str) -> Any:
        field = self.settings.model_fields[name]
        about: dict[str, Any] = {"name": name, "label": field.title, "tooltip": field.description}
        if isinstance(field.default, float):
            return FloatSpinBox(value=field.default, min=0.0, max=100.0, step=0.01, **about)
        editor = LineEdit(value="" if field.default is None else str(field.default), **about)
        editor.native.setPlaceholderText(_AUTOMATIC)
        return editor

    def _value(self, name: str) -> Any:
        value = self._container[name].value
        return (value.strip() or None) if isinstance(value, str) else value
