// Figures of the token that is pointed at, tapped, or reached by the arrow keys.
(() => {
  const maps = JSON.parse(document.getElementById("figures").textContent);
  const map = document.getElementById("map");
  const tip = document.getElementById("tip");
  const cells = [...map.querySelectorAll(".text i")];
  const figures = maps.flat();
  const index = new Map(cells.map((cell, i) => [cell, i]));
  let current = -1;

  const percent = (p) => (p >= 0.001 ? (100 * p).toFixed(p < 0.1 ? 2 : 1) + "%" : p.toExponential(1));
  const visible = (text) => text.replace(/ /g, "\u2423").replace(/\n/g, "\u21b5").replace(/\t/g, "\u2192");

  function line(parent, parts) {
    const row = document.createElement("div");
    for (const [tag, text] of parts) {
      const node = tag ? document.createElement(tag) : document.createTextNode("");
      node.textContent = text;
      row.append(node);
    }
    parent.append(row);
  }

  function describe([text, nll, rank, best, bestP]) {
    const parts = [["b", visible(text)]];
    if (nll === null) return [...parts, ["", "  context, not scored"]];
    parts.push(["", `  P ${percent(Math.exp(-nll))}, -log P ${nll.toFixed(3)}, rank ${rank}`]);
    if (best !== null) parts.push(["br", ""], ["", "most probable: "], ["b", visible(best)], ["", `  ${percent(bestP)}`]);
    else if (rank === 0) parts.push(["br", ""], ["", "the most probable token"]);
    return parts;
  }

  function show(i) {
    if (i < 0 || i >= cells.length) return;
    if (current >= 0) cells[current].classList.remove("on");
    current = i;
    const cell = cells[i];
    cell.classList.add("on");
    tip.replaceChildren();
    for (const entry of figures[i]) line(tip, describe(entry));
    tip.hidden = false;
    const box = cell.getClientRects()[0] || cell.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const below = box.bottom + 8;
    const top = below + own.height > innerHeight ? box.top - own.height - 8 : below;
    tip.style.top = Math.max(4, top) + "px";
    tip.style.left = Math.max(4, Math.min(box.left, document.documentElement.clientWidth - own.width - 4)) + "px";
  }

  function hide() {
    if (current >= 0) cells[current].classList.remove("on");
    tip.hidden = true;
  }

  const under = (event) => index.get(event.target.closest ? event.target.closest(".text i") : null);
  map.addEventListener("pointerover", (event) => {
    const i = under(event);
    if (i === undefined) hide();
    else show(i);
  });
  map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  map.addEventListener("click", (event) => { const i = under(event); if (i !== undefined) show(i); });
  map.addEventListener("blur", hide);
  map.addEventListener("scroll", () => { if (map !== document.activeElement) hide(); });
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 20, ArrowUp: -20, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") return hide();
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const i = Math.max(0, Math.min(cells.length - 1, current < 0 ? 0 : current + steps[event.key]));
    cells[i].scrollIntoView({ block: "nearest" });
    show(i);
  });
})();
