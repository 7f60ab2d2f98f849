// Keep the drawer open or closed from page to page. A closed or hidden drawer asks for nothing.
"use strict";

(function () {
    const drawer = document.getElementById("drawer");
    drawer.open = sessionStorage.getItem("drawer") !== "closed";
    drawer.addEventListener("toggle", function () {
        sessionStorage.setItem("drawer", drawer.open ? "open" : "closed");
    });
    document.addEventListener("htmx:beforeRequest", function (event) {
        if (event.target.id === "drawer-story" && (document.hidden || !drawer.open)) {
            event.preventDefault();
        }
    });
})();
