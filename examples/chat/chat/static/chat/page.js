// Two helpers for the page. Text from others becomes text nodes only, never markup.

export const $ = (id) => document.getElementById(id);

export function make(name, className = "", ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}
