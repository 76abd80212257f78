// What the page remembers: the node's history, put together from the whole of it and what came after.

const LISTS = ["rounds", "peers", "traffic", "exchanges", "log"];
const MOST = 3000; // entries of a list; the node itself keeps fewer

export class Past {
  constructor() {
    this.sequence = -1;
    this.received = this.sent = 0;
    this.at = 0; // seconds since the node started, when it was heard
    this.heard = performance.now();
    for (const name of LISTS) this[name] = [];
  }

  add(document) {
    if (document.sequence < this.sequence) for (const name of LISTS) this[name] = []; // another life of the node
    for (const name of LISTS) {
      const newest = this[name].length ? this[name].at(-1).n : -1;
      const fresh = [...document[name]].sort((a, b) => a.n - b.n).filter((entry) => entry.n > newest);
      this[name] = [...this[name], ...fresh].slice(-MOST);
    }
    [this.sequence, this.received, this.sent, this.at] = [document.sequence, document.received, document.sent, document.seconds];
    this.heard = performance.now();
  }

  get now() {
    return this.at + (performance.now() - this.heard) / 1000;
  }

  // peer -> its latest exchange
  latest() {
    return new Map(this.exchanges.map((exchange) => [exchange.peer, exchange]));
  }
}
