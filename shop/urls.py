"""The site's addresses; `/livez` and `/readyz` are answered earlier, by shop.health."""

from csp.decorators import csp_update
from django.contrib import admin
from django.urls import include, path, re_path
from django.utils.module_loading import module_has_submodule
from django.utils.translation import gettext_lazy as _
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

import inventory
import orders
import payments
from shop import problems

admin.site.site_header = _("Shop")
admin.site.site_title = _("Shop")

# Swagger UI brings its pictures and some styles inline, which no other page may.
docs = csp_update({"img-src": ["'self'", "data:"], "style-src": ["'self'", "'unsafe-inline'"]})(
    SpectacularSwaggerSplitView.as_view(url_name="schema")
)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    # The split view keeps its script in a file of its own: a strict CSP allows no inline one.
    path("api/docs/", docs, name="docs"),
    *(
        path("api/", include(f"{app.__name__}.urls"))
        for app in (orders, inventory, payments)
        if module_has_submodule(app, "urls")
    ),
    path("api/problems/<slug:code>/", problems.Problem.as_view(), name="problem"),
    re_path(r"^api/", problems.Nothing.as_view()),
]

handler400 = "shop.problems.bad_request"
handler500 = "shop.problems.server_error"
