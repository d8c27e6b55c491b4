from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from users.models import User

from . import services
from .contacts_csv import BadFile
from .forms import ImportForm
from .models import Contact, ContactImport

SHOWN = 20


class UserRequest(HttpRequest):
    """A request that has passed the LoginRequiredMiddleware."""

    user: User


@require_http_methods(["GET", "POST"])
def index(request: UserRequest) -> HttpResponse:
    """Show the user's imports, and start one."""
    form = ImportForm()
    if request.method == "POST":
        if not _may_import(request.user):
            raise PermissionDenied
        form = ImportForm(request.POST, request.FILES)
        if form.is_valid():
            file = form.cleaned_data["file"]
            try:
                services.start_import(
                    owner=request.user, filename=file.name, file=file.file
                )
            except BadFile as error:
                form.add_error("file", str(error))
            else:
                return redirect("contacts:index")
    context = {
        "form": form,
        "may_import": _may_import(request.user),
        **_imports(request.user),
    }
    return render(request, "contacts/index.html", context)


@require_GET
def imports(request: UserRequest) -> HttpResponse:
    """Show the part of the page that changes while imports run."""
    return render(request, "contacts/imports.html", _imports(request.user))


def _may_import(user: User) -> bool:
    """Whether the user may do what an import does to contacts."""
    label = Contact._meta.app_label
    return user.has_perms([f"{label}.add_contact", f"{label}.change_contact"])


def _imports(user: User) -> dict[str, Any]:
    own = ContactImport.objects.filter(owner=user).select_related("job")
    shown = list(own.order_by("-created_at")[:SHOWN])
    return {"imports": shown, "active": any(one.is_active for one in shown)}
