// Points by cell of the screen, so that the point under the pointer is found at once.

const CELL = 14;

export class PointGrid {
  private readonly columns: number;
  private readonly rows: number;
  private readonly starts: Uint32Array;
  private readonly order: Uint32Array;
  private readonly x: Float32Array;
  private readonly y: Float32Array;

  constructor(x: Float32Array, y: Float32Array, width: number, height: number) {
    this.x = x;
    this.y = y;
    this.columns = Math.max(1, Math.ceil(width / CELL));
    this.rows = Math.max(1, Math.ceil(height / CELL));
    this.starts = new Uint32Array(this.columns * this.rows + 1);
    for (let i = 0; i < x.length; i++) {
      const cell = this.cell(i);
      if (cell >= 0) this.starts[cell + 1]!++;
    }
    for (let i = 1; i < this.starts.length; i++) this.starts[i]! += this.starts[i - 1]!;
    const next = this.starts.slice();
    this.order = new Uint32Array(this.starts[this.starts.length - 1]!);
    for (let i = 0; i < x.length; i++) {
      const cell = this.cell(i);
      if (cell >= 0) this.order[next[cell]!++] = i;
    }
  }

  private cell(point: number): number {
    const column = Math.floor(this.x[point]! / CELL);
    const row = Math.floor(this.y[point]! / CELL);
    const inside = column >= 0 && row >= 0 && column < this.columns && row < this.rows;
    return inside ? row * this.columns + column : -1;
  }

  /** The nearest point that ``allowed`` admits, within ``reach`` pixels; -1 if there is none. */
  nearest(x: number, y: number, reach: number, allowed: (point: number) => boolean): number {
    let best = -1;
    let least = reach * reach;
    const cells = Math.ceil(reach / CELL);
    const column = Math.floor(x / CELL);
    const row = Math.floor(y / CELL);
    for (let r = Math.max(0, row - cells); r <= Math.min(this.rows - 1, row + cells); r++) {
      const first = r * this.columns + Math.max(0, column - cells);
      const last = r * this.columns + Math.min(this.columns - 1, column + cells);
      if (last < first) continue;
      for (let i = this.starts[first]!; i < this.starts[last + 1]!; i++) {
        const point = this.order[i]!;
        const distance = (this.x[point]! - x) ** 2 + (this.y[point]! - y) ** 2;
        if (distance < least && allowed(point)) {
          least = distance;
          best = point;
        }
      }
    }
    return best;
  }
}
