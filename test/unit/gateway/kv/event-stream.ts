/** Reads an event stream as the WHATWG says, for tests. */
export interface StreamedEvent {
  readonly event: string
  readonly data: { readonly [member: string]: unknown }
  /** The last id that the stream had named by then. */
  readonly lastId: string
}

export class EventStream {
  readonly response: Response
  readonly #aborting: AbortController
  readonly #blocks: AsyncGenerator<string>
  lastId = ''
  /** Blocks that were no event. */
  comments = 0

  private constructor(response: Response, aborting: AbortController) {
    this.response = response
    this.#aborting = aborting
    this.#blocks = blocksOf(response)
  }

  static async open(url: string, headers: Readonly<Record<string, string>> = {}): Promise<EventStream> {
    const aborting = new AbortController()
    const accepting = { accept: 'text/event-stream', ...headers }
    return new EventStream(await fetch(url, { headers: accepting, signal: aborting.signal }), aborting)
  }

  /** The next event; undefined at the end of the stream. */
  async next(): Promise<StreamedEvent | undefined> {
    for (;;) {
      const { value, done } = await this.#blocks.next()
      if (done === true) return undefined
      let [event, data] = ['message', '']
      for (const line of value.split('\n')) {
        const [, name = '', text = ''] = /^([^:]*):? ?(.*)$/.exec(line) ?? []
        if (name === 'id') this.lastId = text
        else if (name === 'event') event = text
        else if (name === 'data') data = text
      }
      if (data !== '') return { event, data: JSON.parse(data) as StreamedEvent['data'], lastId: this.lastId }
      this.comments++
    }
  }

  async take(count: number): Promise<StreamedEvent[]> {
    const events: StreamedEvent[] = []
    while (events.length < count) {
      const event = await this.next()
      if (event === undefined) throw new Error(`the stream ended after ${events.length} of ${count} events`)
      events.push(event)
    }
    return events
  }

  close(): void {
    this.#aborting.abort()
  }
}

async function* blocksOf(response: Response): AsyncGenerator<string> {
  if (response.body === null) return
  let text = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      yield text.slice(0, end)
      text = text.slice(end + 2)
    }
  }
}
