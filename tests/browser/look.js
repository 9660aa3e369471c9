// What is asked of a page, inside of it. Called by chromium.py.

const named = e => {
  const told = e.getAttribute('alt') ?? e.getAttribute('aria-label');
  const by = (e.getAttribute('aria-labelledby') || '').split(' ').map(i => document.getElementById(i)?.textContent ?? '');
  return (told ?? by.join(' ')).trim() || e.querySelector('title')?.textContent.trim() || '';
};

// Every picture and figure: whether it is drawn, and what it is called for who does not see it.
const pictures = () => {
  const images = [...document.images].map(e => ({
    kind: 'img', drawn: e.naturalWidth > 0 && e.getBoundingClientRect().width > 0, name: named(e)}));
  const shown = [...document.querySelectorAll('svg')].filter(e => !e.closest('[aria-hidden=true]'));
  const drawings = shown.map(e => ({
    kind: 'svg', name: named(e),
    drawn: e.getBoundingClientRect().width > 0 && e.querySelectorAll('path,rect,circle,use,line').length > 0}));
  return [...images, ...drawings];
};

// What is wider than the page and in no frame of its own that scrolls.
const sticksOut = () => {
  const wide = document.documentElement.clientWidth + 1;
  const scrolls = e => {
    for (let p = e; p && p !== document.body; p = p.parentElement) {
      if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return true;
    }
    return false;
  };
  if (document.documentElement.scrollWidth <= wide) return [];
  return [...document.body.querySelectorAll('*')]
    .filter(e => !e.closest('svg') && e.getBoundingClientRect().right > wide && !scrolls(e))
    .map(e => `${e.tagName.toLowerCase()}.${e.className} ${Math.round(e.getBoundingClientRect().right)} px`);
};

// Texts with less contrast against what is behind them than WCAG's AA asks (4.5; of large ones 3).
const paleTexts = () => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const d = canvas.getImageData(0, 0, 1, 1).data;
    return [d[0], d[1], d[2], d[3] / 255];
  };
  const linear = v => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = c => 0.2126 * linear(c[0] / 255) + 0.7152 * linear(c[1] / 255) + 0.0722 * linear(c[2] / 255);
  const behind = e => {
    for (let p = e; p; p = p.parentElement) {
      const c = rgba(getComputedStyle(p).backgroundColor);
      if (c[3] > 0.95) return c;
    }
    return [255, 255, 255, 1];
  };
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !e || e.closest('svg, script, style, noscript') || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const [a, b] = [light(rgba(style.color)), light(behind(e))].sort((x, y) => y - x);
    const large = size >= 24 || (size >= 18.6 && +style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.set(`${e.tagName.toLowerCase()}.${e.className}`, `${ratio.toFixed(1)}: ${text}`);
  }
  return [...found].map(([where, what]) => `${where} ${what}`);
};

// Texts that are too small to be read.
const smallTexts = least => [...document.body.querySelectorAll('*')]
  .filter(e => !e.closest('svg') && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
  .filter(e => parseFloat(getComputedStyle(e).fontSize) < least)
  .map(e => `${e.tagName.toLowerCase()}.${e.className} ${getComputedStyle(e).fontSize}`);

// What the tab key has reached: its place among all elements, its name, whether one sees that it is reached.
const reached = () => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const s = getComputedStyle(e);
  const labels = [...(e.labels || [])].map(label => label.textContent).join(' ');
  return {
    place: [...document.querySelectorAll('*')].indexOf(e),
    name: (e.getAttribute('aria-label') || labels || e.textContent || e.title || '').trim().slice(0, 60),
    seen: (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none',
  };
};

const reachable = () => [...document.querySelectorAll('a[href], button, summary, input, select')]
  .filter(e => e.getClientRects().length && e.tabIndex >= 0).length;

const headings = () => [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => +e.tagName[1]);
