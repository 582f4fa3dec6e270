// The keyboard shortcuts, their commands, and their texts in the help.

/** @type {[string, string, string][]} keys, command, meaning */
export const KEYS = [
  ["t", "track", "Track forwards, or continue"],
  ["shift+t", "track-back", "Track backwards"],
  ["w", "track-both", "Track in both directions"],
  ["j", "track-here", "Track from the previous mark up to here"],
  ["space", "play", "Play, or pause tracking"],
  ["Escape", "escape", "Pause or cancel"],
  ["ArrowLeft", "prev", "Previous frame"],
  ["ArrowRight", "next", "Next frame"],
  ["shift+ArrowLeft", "prev-10", "10 frames back"],
  ["shift+ArrowRight", "next-10", "10 frames forward"],
  ["Home", "first", "First frame"],
  ["End", "last", "Last frame"],
  ["i", "number", "Go to a frame by its number"],
  ["↑↓", "", "On the timeline: one frame forward or back"],
  ["PageUp PageDown", "", "… 10 frames forward or back"],
  [",", "prev-key", "Previous marked frame"],
  [".", "next-key", "Next marked frame"],
  ["n", "next-doubt", "Next doubtful frame"],
  ["shift+n", "prev-doubt", "Previous doubtful frame"],
  ["a", "accept", "Accept or unaccept the frame"],
  ["shift+a", "accept-to", "Accept up to here, or unaccept the whole run"],
  ["g", "absent", "The object is not in this frame"],
  ["Delete Backspace", "clear", "Clear the mark"],
  ["f", "aim", "Show a crosshair for the keyboard"],
  ["↑↓←→", "", "… moves it, with Shift by one pixel"],
  ["Enter Space", "", "… clicks, or sets a corner"],
  ["shift+Enter", "", "… clicks off the object"],
  ["Esc", "", "… leaves the picture"],
  ["c", "tool-click", "Click"],
  ["shift+click", "", "… removes, as a right-click does"],
  ["q", "sign", "Switch between adding and removing"],
  ["x", "tool-box", "Box"],
  ["b", "tool-brush", "Brush"],
  ["e", "tool-eraser", "Eraser"],
  ["p", "tool-polygon", "Polygon"],
  ["enter", "close-polygon", "… closes it"],
  ["h", "tool-pan", "Pan the picture"],
  ["[", "smaller", "Smaller brush"],
  ["]", "larger", "Larger brush"],
  ["+ =", "zoom-in", "Zoom in"],
  ["-", "zoom-out", "Zoom out"],
  ["0", "zoom-fit", "Whole picture"],
  ["o", "add", "New object"],
  ["1…9", "", "Select an object"],
  ["v", "hide", "Hide or show the object"],
  ["m", "masks", "Hide or show all masks"],
  ["k", "memory", "Show the memory at this frame"],
  ["y", "why", "Why this pixel?"],
  ["ctrl+z", "undo", "Undo"],
  ["ctrl+shift+z ctrl+y", "redo", "Redo"],
  ["ctrl+o", "open", "Open"],
  ["ctrl+e", "export", "Export"],
  ["l", "theme", "Dark or light theme"],
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
