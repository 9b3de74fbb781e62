"use strict";
// The data of the page, and how elements are made of them: text is only ever set as text, so that
// no label and no file name is read as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.rows;
const labelled = rows.given !== null;

const byId = (id) => document.getElementById(id);

// make("td", {class: "number"}, "0.5"): attributes that are null or false are left out.
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(byId("svg").namespaceURI, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Names come in any script and direction: each is isolated from what stands around it.
const named = (text, attributes = {}) => make("bdi", {dir: "auto", ...attributes}, text);
const className = (label) => named(data.classes[label], {class: "label"});

const whole = new Intl.NumberFormat("en").format;
const minus = (text) => text.replace("-", "\u2212");
const short = (value) => minus(String(Number(value.toPrecision(3))));

// What the page holds to be the right label: the suggested one, or else what the model predicts.
const guesses = rows.suggested ?? rows.predicted;
const guessWord = rows.suggested ? "suggested" : "predicted";
