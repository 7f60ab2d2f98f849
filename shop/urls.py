"""The site's addresses; `/livez` and `/readyz` are answered earlier, by shop.health."""

from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.utils.module_loading import module_has_submodule
from django.utils.translation import gettext_lazy as _
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularSwaggerSplitView

from api.views import SchemaView
from shop import demo_order, problems
from shop.content_security import with_sources

admin.site.site_header = _("Shop")
admin.site.site_title = _("Shop")

# Swagger UI has inline pictures, which no other page may have.
docs = with_sources("img-src", ["'self'", "data:"])(
    SpectacularSwaggerSplitView.as_view(
        url_name="schema",
        title=_("The shop's API"),
        template_name="shop/api_docs.html",
        template_name_js="shop/api_docs.js",
        http_method_names=["get", "head"],
    )
)

# Each app's URLs are included automatically under /api/, so a new app is not listed here. Those of
# the storefront are pages, at the root.
urlpatterns = [
    *([path("", include("storefront.urls"))] if apps.is_installed("storefront") else []),
    *(
        [path("admin/second-factor/", include("shop.second_factor.urls"))]
        if apps.is_installed("shop.second_factor")
        else []
    ),
    path("admin/", admin.site.urls),
    path("language/", set_language, name="set_language"),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    # The split view loads its script as a file: the strict CSP allows no inline script.
    path("api/docs/", docs, name="docs"),
    *(
        path("api/", include(f"{app.name}.urls"))
        for app in apps.get_app_configs()
        if app.name not in {"shop", "storefront"}
        and Path(app.path).parent == settings.BASE_DIR
        and module_has_submodule(app.module, "urls")
    ),
    *(
        [path("demo/order/", demo_order.place_demo_order, name="demo_order")]
        if settings.DEBUG
        else []
    ),
    *(
        [path("development/", include("shop.drawer.urls"))]
        if apps.is_installed("shop.drawer")
        else []
    ),
    path("api/problems/<slug:code>/", problems.Problem.as_view(), name="problem"),
    re_path(r"^api/", problems.Nothing.as_view()),
]

handler400 = "shop.error_handlers.bad_request"
handler403 = "shop.error_handlers.permission_denied"
handler404 = "shop.error_handlers.not_found"
handler500 = "shop.error_handlers.server_error"
