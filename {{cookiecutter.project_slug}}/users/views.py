"""The admin's login, on the project's own login page; and the forgotten password."""

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import PasswordResetView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from .forms import PasswordResetForm

password_reset = PasswordResetView.as_view(form_class=PasswordResetForm)


@login_not_required
def admin_login(request: HttpRequest) -> HttpResponse:
    """Redirect to the project's login page, or to the admin if staff are logged in.

    Raises:
        PermissionDenied: The user is logged in but may not use the admin. The login
            page would redirect back here.
    """
    if not request.user.is_authenticated:
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
    if not admin.site.has_permission(request):
        raise PermissionDenied
    return redirect("admin:index")
