// Refresh parts of pages with htmx: only if they have changed (ETag), and not while the page is
// hidden. Opened sections, scroll positions and the focus are kept. A part that cannot be refreshed
// shows a notice.
"use strict";

(function () {
    // A strict Content-Security-Policy forbids both.
    window.htmx.config.includeIndicatorStyles = false;
    window.htmx.config.allowEval = false;

    // Milliseconds. Without a limit, a part would wait for ever for a server that never answers.
    const LIMIT = 30000;
    const tags = new Map();

    // Other elements of a page may use htmx in their own ways.
    function isPart(element) {
        return "outboxUnrefreshed" in element.dataset;
    }

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
        if (isPart(event.detail.target)) {
            event.detail.timeout = LIMIT;
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

    // After the end of the session, a request for a part is answered with the login, a whole page.
    // Load this page again, so that the login leads back to it. Not by `reload`, which would ask
    // whether to send a form again.
    document.addEventListener("htmx:beforeOnLoad", function (event) {
        const { xhr, target } = event.detail;
        const isPage = xhr.status === 200 && /^\s*<(!doctype|html)\b/i.test(xhr.responseText);
        if (isPage && isPart(target)) {
            event.preventDefault();
            window.location.replace(window.location.pathname + window.location.search);
        }
    });

    // Show since when a part could not be refreshed, until it can be.
    const loaded = new Date();
    const refreshed = new Map();

    function noticeOf(part) {
        return part.querySelector(":scope > [data-outbox-notice]");
    }

    function showNotice(event) {
        const part = event.detail.target;
        if (!isPart(part) || noticeOf(part)) {
            return;
        }
        const time = refreshed.get(event.detail.requestConfig.path) || loaded;
        // With the zone: the times of the page are in the zone of the server.
        const form = { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" };
        const notice = document.createElement("p");
        notice.className = "outbox-panel outbox-dead";
        notice.dataset.outboxNotice = "";
        notice.setAttribute("role", "alert");
        const text = part.dataset.outboxUnrefreshed;
        notice.textContent = text.replace("{time}", time.toLocaleString([], form));
        part.prepend(notice);
    }

    ["htmx:responseError", "htmx:sendError", "htmx:timeout"].forEach(function (name) {
        document.addEventListener(name, showNotice);
    });

    document.addEventListener("htmx:afterRequest", function (event) {
        if (event.detail.successful) {
            refreshed.set(event.detail.requestConfig.path, new Date());
            noticeOf(event.detail.target)?.remove();
        }
    });

    // Keep the open state of sections and the scroll positions when htmx swaps elements.
    const kept = new Map();

    document.addEventListener("htmx:beforeSwap", function (event) {
        // A state noted without a swap would be restored later, by the swap of another element.
        if (!event.detail.shouldSwap) {
            return;
        }
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

        function showCopied() {
            const before = button.textContent;
            button.textContent = button.dataset.outboxCopied;
            setTimeout(() => { button.textContent = before; }, 2000);
        }

        // Over HTTP there is no `navigator.clipboard`. Leave the text selected if this fails, too.
        function copySelection() {
            window.getSelection().selectAllChildren(source);
            if (document.execCommand("copy")) {
                showCopied();
            }
        }

        if (navigator.clipboard) {
            navigator.clipboard.writeText(source.textContent).then(showCopied, copySelection);
        } else {
            copySelection();
        }
    });
})();
