// Refresh parts of pages with htmx: only if they have changed (ETag), and not while the page is
// hidden. Opened sections, scroll positions and the focus are kept.
"use strict";

(function () {
    // A strict Content-Security-Policy forbids both.
    window.htmx.config.includeIndicatorStyles = false;
    window.htmx.config.allowEval = false;

    const tags = new Map();

    document.addEventListener("htmx:beforeRequest", function (event) {
        if (document.hidden) {
            event.preventDefault();
        }
    });

    document.addEventListener("htmx:configRequest", function (event) {
        const tag = tags.get(event.detail.path);
        if (tag) {
            event.detail.headers["If-None-Match"] = tag;
        }
    });

    document.addEventListener("htmx:beforeSwap", function (event) {
        const request = event.detail.xhr;
        if (request.status === 304) {
            event.detail.shouldSwap = false;
            return;
        }
        const tag = request.getResponseHeader("ETag");
        if (tag) {
            tags.set(event.detail.requestConfig.path, tag);
        }
    });

    // Keep the open state of sections and the scroll positions when htmx swaps elements.
    const kept = new Map();

    document.addEventListener("htmx:beforeSwap", function (event) {
        event.detail.target.querySelectorAll("details[id], .outbox-scroll[id]").forEach((element) => {
            kept.set(element.id, [element.open, element.scrollLeft, element.scrollTop]);
        });
    });

    document.addEventListener("htmx:afterSettle", function () {
        kept.forEach(function ([open, left, top], id) {
            const element = document.getElementById(id);
            if (!element) {
                return;
            }
            if (open !== undefined) {
                element.open = open;
            }
            element.scrollTo(left, top);
        });
        kept.clear();
    });

    // Keep the keyboard focus on a link. htmx keeps it on elements with an id.
    let focused = null;

    function linksLike(link, root) {
        const links = [...root.querySelectorAll("[href]")];
        return links.filter((one) => one.getAttribute("href") === link.getAttribute("href"));
    }

    document.addEventListener("htmx:beforeSwap", function (event) {
        const link = document.activeElement;
        const isLeft = event.detail.shouldSwap && event.detail.target.contains(link);
        focused = isLeft && link.hasAttribute("href") && !link.id
            ? { link, nth: linksLike(link, event.detail.target).indexOf(link), root: event.detail.target.id }
            : null;
    });

    document.addEventListener("htmx:afterSwap", function () {
        if (!focused) {
            return;
        }
        const root = document.getElementById(focused.root);
        const links = root ? linksLike(focused.link, root) : [];
        const link = links[focused.nth] || links[0];
        if (link) {
            link.focus({ preventScroll: true });
        }
        focused = null;
    });

    document.addEventListener("click", function (event) {
        const button = event.target.closest("[data-outbox-copy]");
        if (!button) {
            return;
        }
        const source = document.getElementById(button.dataset.outboxCopy);
        navigator.clipboard.writeText(source.textContent).then(function () {
            const before = button.textContent;
            button.textContent = button.dataset.outboxCopied;
            setTimeout(() => { button.textContent = before; }, 2000);
        });
    });
})();
