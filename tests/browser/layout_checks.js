// Name the texts and controls of the page that are cut off, hidden or overlapped. The argument is a
// selector of scroll containers that may be wider than their visible part.
(wideContainers) => {
    const CONTROLS = "a[href], button, input:not([type=hidden]), select, textarea, summary";
    const SLACK = 1.5; // borders, rounding
    const root = document.documentElement;
    const found = [];

    function described(element, words) {
        const name = element.tagName.toLowerCase();
        const marks = [element.id && `#${element.id}`, element.getAttribute("class")].filter(Boolean).join(" ");
        return `<${name} ${marks}> ${JSON.stringify((words || "").trim().slice(0, 60))}`;
    }

    function isVisible(element) {
        return element.checkVisibility({ visibilityProperty: true, opacityProperty: true })
            && !element.closest(".visually-hidden, .skip-to-content-link, .hidden");
    }

    // The boxes of all texts, a box for each line, and of all controls.
    function boxes() {
        const all = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            const element = node.parentElement;
            if (!node.data.trim() || element.closest("script, style, title, option, template, textarea") || !isVisible(element)) {
                continue;
            }
            const range = document.createRange();
            range.selectNodeContents(node);
            for (const rect of range.getClientRects()) {
                if (rect.width > 1) {
                    all.push({ element, rect, words: node.data, isText: true });
                }
            }
        }
        for (const element of document.querySelectorAll(CONTROLS)) {
            const rect = element.getBoundingClientRect();
            // The texts of an inline one, of several lines, are boxes already.
            const isInline = getComputedStyle(element).display === "inline";
            if (isVisible(element) && !isInline && rect.width && rect.height && !element.closest("svg")) {
                all.push({ element, rect, words: element.textContent || element.value, isText: false });
            }
        }
        return all;
    }

    // What of a box its ancestors leave visible, and the nearest that scrolls; a finding if it is cut.
    // Null for a text that is for screen readers only.
    function place(box) {
        let { left, right, top, bottom } = box.rect;
        let scroller = null, problem = "";
        for (let outer = box.element; outer && outer !== root && outer !== document.body; outer = outer.parentElement) {
            const style = getComputedStyle(outer);
            const isInline = style.display === "inline" && outer.tagName !== "svg";
            if (isInline || (style.overflowX === "visible" && style.overflowY === "visible")) {
                continue;
            }
            const edge = outer.getBoundingClientRect();
            if (edge.width <= 1.5 && style.position === "absolute") {
                return null;
            }
            const isScroller = ["auto", "scroll"].includes(style.overflowX);
            // A text may lie directly in its scroll container, such as a <pre>.
            if (isScroller && !scroller && (box.isText || outer !== box.element)) {
                scroller = outer;
            }
            const mayScroll = isScroller && outer.matches(wideContainers);
            if (mayScroll) {
                const start = edge.left + outer.clientLeft - outer.scrollLeft;
                if (left < start - SLACK || right > start + outer.scrollWidth + SLACK) {
                    problem = problem || "out of reach of its scroll container";
                }
            } else if (left < edge.left - SLACK || right > edge.right + SLACK) {
                problem = problem || `cut off by ${described(outer)}`;
            }
            [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
            if (style.overflowY === "hidden" || style.overflowY === "clip") {
                const covered = Math.max(edge.top - top, bottom - edge.bottom);
                if (covered > (bottom - top) / 3) {
                    problem = problem || `cut off below by ${described(outer)}`;
                }
            } else if (style.overflowY !== "visible") {
                [top, bottom] = [Math.max(top, edge.top), Math.min(bottom, edge.bottom)];
            }
            if (style.textOverflow === "ellipsis" && outer.scrollWidth > outer.clientWidth && !outer.title) {
                problem = problem || "an ellipsis without a title";
            }
        }
        if (!problem && right > left && (left < -SLACK || right > root.clientWidth + SLACK)) {
            problem = "outside of the window";
        }
        if (problem) {
            found.push(`${problem}: ${described(box.element, box.words)} at ${Math.round(box.rect.left)}..${Math.round(box.rect.right)}`);
        }
        return { ...box, scroller, shown: { left, right, top, bottom } };
    }

    // Two line boxes may touch. Letters overlap where more than a third of a line's height is covered.
    function overlap(a, b) {
        const [one, other] = a.scroller === b.scroller ? [a.rect, b.rect] : [a.shown, b.shown];
        const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
        const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
        const lower = Math.min(one.bottom - one.top, other.bottom - other.top);
        return wide > SLACK && high > lower / 3;
    }

    const placed = boxes().map(place).filter(Boolean).sort((a, b) => a.rect.top - b.rect.top);
    const lowest = Math.max(0, ...placed.map((box) => box.rect.height));
    placed.forEach((a, number) => {
        for (let next = number + 1; next < placed.length; next += 1) {
            const b = placed[next];
            if (b.rect.top > a.rect.bottom || b.rect.top > a.rect.top + lowest) {
                break;
            }
            const isRelated = a.element.contains(b.element) || b.element.contains(a.element);
            if (!isRelated && overlap(a, b)) {
                found.push(`overlapped: ${described(a.element, a.words)} and ${described(b.element, b.words)}`);
            }
        }
    });
    return [...new Set(found)];
}
