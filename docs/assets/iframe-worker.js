// The search runs in a worker, and browsers start no worker of a page that is a file:
// there it runs in a hidden frame. The theme's plugin "offline" would load such a script
// from the web; it leaves that out because of this file's name.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      const script = inside.document.createElement("script");
      script.src = url;
      this.ready = new Promise((resolve) => (script.onload = resolve));
      inside.document.body.append(script);
      this.frame = frame;
    }

    postMessage(data) {
      const inside = this.frame.contentWindow;
      const event = new inside.MessageEvent("message", { data });
      this.ready.then(() => inside.dispatchEvent(event));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
