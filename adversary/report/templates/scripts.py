"""The pages' scripts; everything can be read without them."""

FILTERS = r"""
document.querySelectorAll("form.filters").forEach(function (form) {
  var items = Array.from(document.querySelectorAll("[data-filtered]"));
  var selects = Array.from(form.querySelectorAll("select"));
  var said = form.querySelector("output");
  var update = function () {
    var shown = {}, all = {};
    items.forEach(function (item) {
      var kind = item.getAttribute("data-filtered");
      var fits = selects.every(function (select) {
        return select.value === "" || item.getAttribute("data-" + select.name) === select.value;
      });
      item.classList.toggle("filtered-out", !fits);
      all[kind] = (all[kind] || 0) + 1;
      shown[kind] = (shown[kind] || 0) + (fits ? 1 : 0);
    });
    said.textContent = Object.keys(all).map(function (kind) {
      return shown[kind] + " of " + all[kind] + " " + kind + " shown";
    }).join(", ");
  };
  form.hidden = false;
  form.addEventListener("change", update);
  form.addEventListener("reset", function () { setTimeout(update, 0); });
  update();
});
"""
"""Shows the pictures and rows that fit all choices of a form, and says how many they are."""

SORTING = r"""
document.querySelectorAll("table.sortable thead th").forEach(function (head, column) {
  var button = document.createElement("button");
  button.type = "button";
  while (head.firstChild) { button.appendChild(head.firstChild); }
  head.appendChild(button);
  button.addEventListener("click", function () {
    var down = head.getAttribute("aria-sort") === "ascending";
    var value = function (row) { return row.cells[column].getAttribute("data-value"); };
    var before = function (a, b) {
      var x = value(a), y = value(b);
      if (x === "" || y === "") { return (x === "") - (y === ""); }
      var order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    head.parentNode.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    Array.from(head.closest("table").tBodies).forEach(function (body) {
      var rows = Array.from(body.rows).filter(function (row) { return row.hasAttribute("data-filtered"); });
      rows.sort(before).forEach(function (row) { body.appendChild(row); });
    });
  });
});
"""
"""Makes a table sortable, each of its bodies by itself: by mouse, and by keyboard."""
