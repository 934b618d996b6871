import { live } from './client.js';

/** <live-json src="/api/quotes" at="/quotes/0/price">: shows a value that is text, and fires change and status. */
class LiveJson extends HTMLElement {
  static observedAttributes = ['src', 'at'];
  #stop;
  connectedCallback() {
    this.disconnectedCallback();
    const src = this.getAttribute('src'), at = this.getAttribute('at');
    if (!src) return;
    const document = live(src), part = at ? document.at(at) : document;
    const offs = [
      part.subscribe((data, change) => {
        this.data = data;
        if (Object(data) !== data) this.textContent = data ?? '';
        this.dispatchEvent(new CustomEvent('change', { detail: { data, change } }));
      }),
      part.onStatus((status) => {
        this.status = status;
        this.dispatchEvent(new CustomEvent('status', { detail: status }));
      }),
    ];
    this.#stop = () => offs.forEach((off) => off());
  }
  disconnectedCallback() {
    this.#stop?.();
    this.#stop = undefined;
  }
  attributeChangedCallback() {
    if (this.isConnected) this.connectedCallback();
  }
}
customElements.define('live-json', LiveJson);
