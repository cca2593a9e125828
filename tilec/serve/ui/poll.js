// Looks again and again while the page is seen. A first failure is shown, a later one waited out.

export function poll(look, signal, failed, seconds = 5) {
  let first = true;

  async function once() {
    try {
      if (first || !document.hidden) await look();
      first = false;
    } catch (error) {
      if (signal.aborted) return;
      if (first || error.status === 401) {
        failed(error);
        return;
      }
    }
    if (!signal.aborted) setTimeout(once, 1000 * seconds);
  }

  once();
}
