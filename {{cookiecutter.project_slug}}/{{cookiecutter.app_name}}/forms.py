from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat

MAX_SIZE = 100 * 1024 * 1024


class ImportForm(forms.Form):
    """The CSV file to import."""

    file = forms.FileField(
        label="CSV file",
        help_text="With a header line that names email, name, company and phone.",
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
        max_length=255,
    )

    def clean_file(self) -> "UploadedFile[bytes]":
        """Refuse files that would keep the worker for hours."""
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        if file.size and file.size > MAX_SIZE:
            limit, size = filesizeformat(MAX_SIZE), filesizeformat(file.size)
            raise forms.ValidationError(f"The file is {size}; the limit is {limit}.")
        return file
