from django.urls import path
from till.views import place_order

urlpatterns = [path("orders/<str:order>", place_order)]
