from datetime import datetime, timedelta

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.functional import lazy

from .services import SEARCH_ROWS

MAX_SIZE = 100 * 1024 * 1024
MAX_WAIT = timedelta(days=365)


class ImportForm(forms.Form):
    """The CSV file to import, and when."""

    file = forms.FileField(
        label="CSV file",
        help_text="The header needs “email”; “name”, “company” and “phone” are optional."
        " A blank cell does not erase what is stored.",
        widget=forms.FileInput(attrs={"accept": ".csv,.tsv,.txt,text/csv,text/plain"}),
        max_length=255,
    )
    schedule_at = forms.DateTimeField(
        label=lazy(lambda: f"Start at ({timezone.get_current_timezone_name()})", str)(),
        required=False,
        widget=forms.DateTimeInput(
            attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"
        ),
    )

    def clean_file(self) -> "UploadedFile[bytes]":
        """Reject files that would keep a worker busy for hours."""
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        if file.size and file.size > MAX_SIZE:
            limit, size = filesizeformat(MAX_SIZE), filesizeformat(file.size)
            raise forms.ValidationError(f"The file is {size}; the limit is {limit}.")
        return file

    def clean_schedule_at(self) -> datetime | None:
        """Reject times in the past, or so far away that they must be a mistake."""
        due: datetime | None = self.cleaned_data["schedule_at"]
        if due and not timezone.now() < due < timezone.now() + MAX_WAIT:
            raise forms.ValidationError("Choose a time within the coming year.")
        return due


class SearchForm(forms.Form):
    """What to search for, and the address after which the page begins."""

    search = forms.CharField(
        label="Search",
        help_text="The beginning of an e-mail address, a name or a company."
        f" Finds at most {SEARCH_ROWS:,} of each.",
        required=False,
        max_length=254,
        widget=forms.TextInput(attrs={"type": "search"}),
    )
    after = forms.CharField(required=False, max_length=254, widget=forms.HiddenInput)
