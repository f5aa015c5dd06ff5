// Injected into a copy of a page: tells the window around it what does not fit. Positions are in pixels.
const problems = [];
addEventListener("error", event => problems.push(`script: ${event.message}`));
addEventListener("load", () => {
  const box = element => element.getBoundingClientRect();
  const name = element => `${element.tagName}.${element.getAttribute("class") || ""} ${element.textContent.trim().slice(0, 40)}`;
  const outside = (inner, outer, slack) => inner.left < outer.left - slack || inner.right > outer.right + slack
    || inner.top < outer.top - slack || inner.bottom > outer.bottom + slack;
  const drawn = [...document.body.querySelectorAll("*")].filter(element => {
    const {width, height} = box(element);
    return width > 0 && height > 0 && !element.closest("script, defs, title");
  });
  for (const element of drawn) {
    const svg = element.closest("main svg, header svg");
    const scroll = element.parentElement.closest(".scroll");
    if (svg && element !== svg) {
      // Marks and the labels of the last ticks may stand half outside, where there is room for them.
      let whole = svg;
      while (whole.parentElement.closest("svg")) whole = whole.parentElement.closest("svg");
      if (outside(box(element), box(whole), 7)) problems.push(`outside its figure: ${name(element)}`);
    } else if (!scroll && outside(box(element), box(element.parentElement), 1)) {
      problems.push(`outside its parent: ${name(element)}`);
    }
    const size = parseFloat(getComputedStyle(element).fontSize);
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (own && size < 11) problems.push(`text of ${size} px: ${name(element)}`);
  }
  for (const axis of document.querySelectorAll(".axis svg, svg.axis")) {
    const labels = [...axis.querySelectorAll("text")].map(box).sort((one, two) => one.left - two.left);
    labels.slice(1).forEach((label, before) => {
      if (label.left < labels[before].right) problems.push("tick labels touch");
    });
  }
  for (const row of document.querySelectorAll(".row")) {
    const [label, value] = [box(row.querySelector(".name")), box(row.querySelector(".value"))];
    if (label.right > value.left && label.bottom > value.top + 1 && value.bottom > label.top + 1 && value.width) {
      problems.push(`name on its value: ${name(row)}`);
    }
  }
  const scrolled = document.documentElement.scrollWidth - innerWidth;
  if (scrolled > 0) problems.push(`the page is ${scrolled} px too wide`);
  parent.postMessage({width: innerWidth, drawn: drawn.length, title: document.title, problems}, "*");
});
