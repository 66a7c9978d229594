"""Forms whose complaints come from two sides: the form itself, and the service's problem with its JSON pointers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from apps.api.field_errors import UNSPECIFIC_REMEDY, FieldError
from apps.api.problems import Problem


class DocumentForm(forms.Form):
    """A form over a document. ``pointers`` maps JSON pointers of the document to the form's fields."""

    pointers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)

    def show_problem(self, problem: Problem) -> Problem | None:
        """Put each error at its field. Returns the problem if some of it fits no field and must be shown above."""
        homeless = not problem.errors
        for error in problem.errors:
            name = self._field_of(error.pointer or "")
            if name is None:
                homeless = True
                continue
            self.add_error(name, _said(error))
        return problem if homeless else None

    def _field_of(self, pointer: str) -> str | None:
        """The field for a pointer or for the nearest object above it (``/residency/0`` belongs to ``/residency``)."""
        while pointer:
            if pointer in self.pointers:
                return self.pointers[pointer]
            pointer = pointer.rpartition("/")[0]
        return None


def _said(error: FieldError) -> str:
    """Detail and remedy as one sentence; a remedy that only points at the detail adds nothing."""
    if error.remedy is None or error.remedy == UNSPECIFIC_REMEDY:
        return error.detail
    return f"{error.detail.rstrip('.')}: {error.remedy}."
