from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)

from jobs import stats
from users.models import User

from . import services
from .contacts_csv import BadFile
from .forms import ImportForm, SearchForm
from .models import Contact, ContactImport, State
from .services import AlreadyImporting

IMPORTS_SHOWN = 20


class UserRequest(HttpRequest):
    """A request that has passed the LoginRequiredMiddleware."""

    user: User  # pyright: ignore[reportIncompatibleVariableOverride]


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: UserRequest) -> HttpResponse:
    """Show the user's imports, and start one."""
    form = ImportForm()
    if request.method == "POST":
        _require(request.user, "add", "change")
        form = ImportForm(request.POST, request.FILES)
        if form.is_valid() and _start_import(request, form):
            return redirect("contacts:index")
    context = {
        "form": form,
        "may_import": _may(request.user, "add", "change"),
        **_imports(request.user),
    }
    return render(request, "contacts/index.html", context)


@require_safe
def imports(request: UserRequest) -> HttpResponse:
    """Show the part of the page that changes during an import."""
    return render(request, "contacts/imports.html", _imports(request.user))


@require_POST
def sample(request: UserRequest) -> HttpResponse:
    """Import the sample contacts."""
    _require(request.user, "add", "change")
    try:
        services.start_sample_import(owner=request.user)
    except AlreadyImporting:
        messages.info(request, "The sample contacts are already being imported.")
    return redirect("contacts:index")


@require_POST
def cancel(request: UserRequest, pk: int) -> HttpResponse:
    """Cancel one of the user's imports."""
    get_object_or_404(ContactImport, pk=pk, owner=request.user)
    services.cancel_import(import_id=pk)
    return redirect("contacts:index")


@require_POST
def retry(request: UserRequest, pk: int) -> HttpResponse:
    """Resume one of the user's imports that has stopped."""
    _require(request.user, "add", "change")
    get_object_or_404(ContactImport, pk=pk, owner=request.user)
    if not services.retry_import(import_id=pk):
        messages.info(
            request,
            "This import has not stopped, or its file is gone: it cannot be retried.",
        )
    return redirect("contacts:index")


@require_safe
def rejected(request: UserRequest, pk: int) -> StreamingHttpResponse:
    """Download the rejected rows of an import."""
    get_object_or_404(ContactImport, pk=pk, owner=request.user)
    return StreamingHttpResponse(
        services.rejected_csv(import_id=pk),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="rejected-{pk}.csv"'},
    )


@require_safe
def contacts(request: UserRequest) -> HttpResponse:
    """List all contacts, or those that match a search, page by page."""
    if not (_may(request.user, "view") or _may(request.user, "change")):
        raise PermissionDenied
    form = SearchForm(request.GET)
    found = services.find_contacts(**form.cleaned_data) if form.is_valid() else []
    shown = found[: services.PAGE_ROWS]
    context = {
        "form": form,
        "search": form.cleaned_data.get("search", ""),
        "is_first_page": not form.cleaned_data.get("after"),
        "contacts": shown,
        "next": shown[-1].email if len(found) > len(shown) else "",
    }
    return render(request, "contacts/contacts.html", context)


def _may(user: User, *actions: str) -> bool:
    """Whether the user has these permissions for contacts. Imports add and change."""
    label = Contact._meta.app_label
    return user.has_perms([f"{label}.{action}_contact" for action in actions])


def _require(user: User, *actions: str) -> None:
    if not _may(user, *actions):
        raise PermissionDenied


def _start_import(request: UserRequest, form: ImportForm) -> bool:
    """Start an import, or show in the form why it cannot start."""
    file = form.cleaned_data["file"]
    try:
        started = services.start_import(
            owner=request.user,
            filename=file.name,
            file=file.file,
            schedule_at=form.cleaned_data["schedule_at"],
        )
    except BadFile as error:
        form.add_error("file", str(error))
        return False
    except AlreadyImporting:
        form.add_error("file", "This file is already being imported, or scheduled.")
        return False
    if started.has_rows:
        messages.info(
            request,
            f"You have sent {started.filename} before: its import goes on"
            f" where it stopped, after line {started.line:,}.",
        )
    return True


def _imports(user: User) -> dict[str, Any]:
    own = ContactImport.objects.filter(owner=user).select_related("job")
    shown = list(own.order_by("-created_at")[:IMPORTS_SHOWN])
    active = [one for one in shown if one.is_active]
    not_due = all(one.state in (State.SCHEDULED, State.RETRYING) for one in active)
    return {
        "imports": shown,
        "active": bool(active),
        "polling_interval": "3s" if not_due else "500ms",
        "no_worker": bool(active) and not stats.workers_alive(),
    }
