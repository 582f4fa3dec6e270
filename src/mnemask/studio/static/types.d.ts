// Types of the server's messages, used only by `tsc --checkJs`.

interface StudioObject { id: number; name: string; category: string; color: string; }
interface Key { frame: number; object_id: number; mask: string; how: { tool?: string; points?: Point[]; box?: [number, number, number, number] | null }; }
interface Settings { model: string; policy: string; frames: number | null; size: number; write_every: number | null; }
interface Job {
  type: "job"; kind: "track" | "export"; running: boolean; error?: string; frame?: number; fps?: number; step?: number; number?: number; start?: number;
  passing?: number | null;
  frames?: number; tokens?: number; bank_bytes?: number; complete?: boolean; total?: number; done?: number; folder?: string;
  files?: string[]; written?: number; bytes?: number; export?: string; last?: number; stopped?: boolean; warnings?: string[]; confidence?: Record<string, number[]>;
}
interface State {
  type: "state"; version: number; name: string; video: string; num_frames: number; width: number; height: number; fps: number | null;
  objects: StudioObject[]; keys: Key[]; accepted: [number, number][]; settings: Settings; exports: string[]; coverage: Record<string, Coverage>;
  undo: boolean; redo: boolean; job: Job | null; pixel_aspect: number; notes: string[]; turned?: Action | null;
}
interface Coverage { tracked: number; untracked: number; before: number; }
interface Action { do: string; frame?: number; object?: number; id?: number; first?: number; last?: number; }
type Point = [number, number, number]; // x, y, and whether it is on the object
interface Making { id: number; only: boolean; } // 0 until it is created; whether no other one was asked for: one that exists after all was created without an answer
interface Drawn { frame: number; object: number; whole?: boolean; } // whether it sets the whole mark, whatever was drawn before
interface Unanswered { work: (api: import("./api.js").Api) => Promise<unknown>; drawn: Drawn | undefined; api: import("./api.js").Api; }
interface Timeline {
  bins: number; known: number[]; objects: Record<string, { doubt: number[]; area: number[] }>; doubtful: number[];
}
interface Workspace { version: string; folder: string; projects: string[]; policies: string[]; formats: Format[]; }
interface Format { name: string; group: string; title: string; about: string; options: string[]; }
interface Entry { name: string; path: string; folder: boolean; }
interface Browse { path: string; parent: string | null; entries: Entry[]; images?: number; }
interface Labels { width: number; height: number; ids: Uint16Array; known?: number[]; doubt?: Record<string, number>; notes?: string[]; }
type Tool = "click" | "box" | "brush" | "eraser" | "polygon" | "pan";
