"""The addresses of the storefront, at the root of the site."""

from __future__ import annotations

from django.urls import path

from storefront import account_views, address_views, order_views, password_views, views

app_name = "storefront"

urlpatterns = [
    path("", views.catalogue, name="catalogue"),
    path("basket/", views.basket, name="basket"),
    path("basket/change/", views.change_basket, name="change_basket"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/", order_views.order_list, name="orders"),
    path("orders/<uuid:pk>/", order_views.order, name="order"),
    path("orders/<uuid:pk>/status/", order_views.order_status, name="order_status"),
    path("orders/<uuid:pk>/cancel/", order_views.cancel, name="cancel"),
    path("orders/<uuid:pk>/again/", order_views.order_again, name="order_again"),
    path("account/", address_views.account, name="account"),
    path("account/address/", address_views.ChangeAddress.as_view(), name="change_address"),
    path("account/verify/", address_views.send_verification, name="send_verification"),
    path("account/verify/<str:token>/", address_views.verify_address, name="verify_address"),
    path("account/password/", password_views.ChangePassword.as_view(), name="change_password"),
    path(
        "account/new-password/",
        password_views.ForgottenPassword.as_view(),
        name="forgotten_password",
    ),
    path(
        "account/new-password/sent/",
        password_views.PasswordLinkSent.as_view(),
        name="password_link_sent",
    ),
    path(
        "account/new-password/<uidb64>/<token>/",
        password_views.NewPassword.as_view(),
        name="new_password",
    ),
    path("account/sign-in/", account_views.SignIn.as_view(), name="sign_in"),
    path("account/sign-up/", account_views.sign_up, name="sign_up"),
    path("account/sign-out/", account_views.sign_out, name="sign_out"),
]
