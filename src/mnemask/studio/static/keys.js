// Every key, what it does, and what the help says of it.

/** @type {[string, string, string][]} keys, command, meaning */
export const KEYS = [
  ["t", "track", "Track forwards, go on"],
  ["shift+t", "track-back", "Track backwards"],
  ["w", "track-both", "Track both ways"],
  ["j", "track-here", "Track from the mark before up to here"],
  ["space", "play", "Play; pause tracking"],
  ["Escape", "escape", "Pause, cancel"],
  ["ArrowLeft", "prev", "Previous frame"],
  ["ArrowRight", "next", "Next frame"],
  ["shift+ArrowLeft", "prev-10", "10 frames back"],
  ["shift+ArrowRight", "next-10", "10 frames on"],
  ["Home", "first", "First frame"],
  ["End", "last", "Last frame"],
  ["i", "number", "Go to a frame by its number"],
  ["↑↓", "", "On the timeline: a frame on, or back"],
  ["PageUp PageDown", "", "… 10 frames on, or back"],
  [",", "prev-key", "Previous marked frame"],
  [".", "next-key", "Next marked frame"],
  ["n", "next-doubt", "Next doubtful frame"],
  ["shift+n", "prev-doubt", "Previous doubtful frame"],
  ["a", "accept", "Accept the frame, or take that back"],
  ["shift+a", "accept-to", "Accept up to here, or take back the whole run"],
  ["g", "absent", "The object is not in this frame"],
  ["Delete Backspace", "clear", "Take a mark back"],
  ["f", "aim", "A cross-hair in the picture, for the keyboard"],
  ["↑↓←→", "", "… moves it; with Shift by a pixel"],
  ["Enter Space", "", "… clicks, or sets a corner"],
  ["shift+Enter", "", "… clicks what is not the object"],
  ["Esc", "", "… leaves the picture"],
  ["c", "tool-click", "Click"],
  ["shift+click", "", "… takes away, as a right click does"],
  ["q", "sign", "Clicks add or take away"],
  ["x", "tool-box", "Box"],
  ["b", "tool-brush", "Brush"],
  ["e", "tool-eraser", "Eraser"],
  ["p", "tool-polygon", "Polygon"],
  ["enter", "close-polygon", "… closes it"],
  ["h", "tool-pan", "Move the picture"],
  ["[", "smaller", "Smaller brush"],
  ["]", "larger", "Larger brush"],
  ["+ =", "zoom-in", "Zoom in"],
  ["-", "zoom-out", "Zoom out"],
  ["0", "zoom-fit", "Whole picture"],
  ["o", "add", "New object"],
  ["1…9", "", "Select an object"],
  ["v", "hide", "Hide or show the object"],
  ["m", "masks", "Hide or show all masks"],
  ["k", "memory", "What is remembered here"],
  ["y", "why", "Why this pixel?"],
  ["ctrl+z", "undo", "Undo"],
  ["ctrl+shift+z ctrl+y", "redo", "Redo"],
  ["ctrl+o", "open", "Open"],
  ["ctrl+e", "export", "Export"],
  ["l", "theme", "Dark or light"],
  ["?", "help", "This help"],
];

const NAMES = /** @type {Record<string, string>} */ ({
  ArrowLeft: "←", ArrowRight: "→", "shift+ArrowLeft": "Shift ←", "shift+ArrowRight": "Shift →", Escape: "Esc", space: "Space", enter: "Enter",
});

/** @param {string} key */
export function keyName(key) {
  if (key in NAMES) return NAMES[key];
  if (key === "+") return key;
  return key.split("+").filter(Boolean).map((part) => part[0].toUpperCase() + part.slice(1)).join(" ");
}
