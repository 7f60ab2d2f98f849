"""The site's addresses; `/livez` and `/readyz` are answered earlier, by shop.health."""

from pathlib import Path

from csp.decorators import csp_update
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.utils.module_loading import module_has_submodule
from django.utils.translation import gettext_lazy as _
from drf_spectacular.views import SpectacularSwaggerSplitView

from api.views import SchemaView
from shop import home, invitation, problems

admin.site.site_header = _("Shop")
admin.site.site_title = _("Shop")

# Swagger UI brings its pictures inline, which no other page may.
docs = csp_update({"img-src": ["'self'", "data:"]})(
    SpectacularSwaggerSplitView.as_view(
        url_name="schema",
        title=_("The shop's API"),
        template_name="shop/api_docs.html",
        http_method_names=["get", "head"],
    )
)

# Each app of this project that has addresses brings them; a new one is listed nowhere else.
urlpatterns = [
    path("", home.home, name="home"),
    *(
        [path("admin/second-factor/", include("shop.second_factor.urls"))]
        if apps.is_installed("shop.second_factor")
        else []
    ),
    path("admin/", admin.site.urls),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    # The split view keeps its script in a file of its own: a strict CSP allows no inline one.
    path("api/docs/", docs, name="docs"),
    *(
        path("api/", include(f"{app.name}.urls"))
        for app in apps.get_app_configs()
        if app.name != "shop"
        and Path(app.path).parent == settings.BASE_DIR
        and module_has_submodule(app.module, "urls")
    ),
    *(
        [path("demo/order/", invitation.place_demo_order, name="demo_order")]
        if settings.DEBUG
        else []
    ),
    path("api/problems/<slug:code>/", problems.Problem.as_view(), name="problem"),
    re_path(r"^api/", problems.Nothing.as_view()),
]

handler400 = "shop.problems.bad_request"
handler500 = "shop.problems.server_error"
