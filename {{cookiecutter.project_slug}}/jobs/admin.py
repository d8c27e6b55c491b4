"""The queue in Django's admin: only a link, as the pages of the jobs show more."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from procrastinate.contrib.django.models import ProcrastinateJob

from .models import QueuedJob

admin.site.unregister(ProcrastinateJob)


def deny(*args: Any) -> bool:
    """Deny a permission to everybody."""
    return False


@admin.register(QueuedJob)
class QueuedJobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Leads to the list of jobs and to the page of each job."""

    has_add_permission: Any = deny
    has_change_permission: Any = deny
    has_delete_permission: Any = deny

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the list."""
        return redirect("jobs:jobs")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Lead to the page of a job."""
        job = get_object_or_404(QueuedJob, pk=object_id if object_id.isdecimal() else 0)
        return redirect("jobs:job", job.pk)
