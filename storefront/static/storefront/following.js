// A hidden page of an order asks for nothing. When it is shown again, it asks at once, by its trigger
// `visibilitychange`. A condition in the trigger needs eval, which the policy forbids.
"use strict";

document.addEventListener("htmx:beforeRequest", function (event) {
    if (event.target.id === "order-poll" && document.hidden) {
        event.preventDefault();
    }
});
