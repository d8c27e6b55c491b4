"""What Django's own pages for logging in leave open."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse


@login_not_required
def admin_login(request: HttpRequest) -> HttpResponse:
    """Let the admin use the project's login page.

    Raises:
        PermissionDenied: Somebody is logged in who may not use the admin: to log in
            again would lead back here.
    """
    if not request.user.is_authenticated:
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
    if not admin.site.has_permission(request):
        raise PermissionDenied
    return redirect("admin:index")
