import CGraft

/// What a trainer learns together.
public enum Row: Hashable, Sendable {
    /// A text, all of which is learnt.
    case text(String)
    /// A completion, which is learnt, behind a prompt, which is not.
    case completion(prompt: String, completion: String)
    /// A conversation: what the assistant says is learnt, through the model's chat template. `tools` is a JSON array.
    case chat([ChatMessage], tools: String? = nil)
    /// Tokens; of them those are learnt for which `learn` is true, or all.
    case tokens([UInt32], learn: [Bool]? = nil)
    /// A line of a data file of `graft train`.
    case line(String)
}

/// Rows as the C interface takes them, and the memory that they point into.
final class Rows {
    private var memory: [UnsafeMutableRawPointer] = []
    private(set) var rows: [graft_row] = []

    /// - Throws: `GraftError` for tokens and what to learn of them that are not of one length.
    init(_ rows: [Row]) throws {
        for row in rows { self.rows.append(try lend(row)) }
    }

    deinit { memory.forEach { $0.deallocate() } }

    /// A copy that lives as long as this; also of nothing there is an address.
    private func copy<Element>(_ elements: [Element]) -> UnsafePointer<Element> {
        let copy = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
        copy.initialize(from: elements, count: elements.count)
        memory.append(UnsafeMutableRawPointer(copy))
        return UnsafePointer(copy)
    }

    private func text(_ text: String) -> (UnsafePointer<CChar>, Int) {
        let bytes = text.utf8.map(CChar.init(bitPattern:))
        return (copy(bytes), bytes.count)
    }

    private func message(_ message: ChatMessage) -> graft_message {
        var lent = graft_message()
        (lent.role, lent.role_len) = text(message.role)
        (lent.content, lent.content_len) = text(message.content)
        if let extra = message.extra { (lent.extra, lent.extra_len) = text(extra) }
        return lent
    }

    private func lend(_ row: Row) throws -> graft_row {
        var lent = graft_row()
        switch row {
        case .text(let all): (lent.text, lent.text_len) = text(all)
        case .line(let line): (lent.line, lent.line_len) = text(line)
        case .completion(let prompt, let completion):
            (lent.prompt, lent.prompt_len) = text(prompt)
            (lent.completion, lent.completion_len) = text(completion)
        case .chat(let messages, let tools):
            (lent.messages, lent.n_messages) = (copy(messages.map(message)), messages.count)
            if let tools { (lent.tools, lent.tools_len) = text(tools) }
        case .tokens(let tokens, let learn):
            (lent.tokens, lent.n_tokens) = (copy(tokens), tokens.count)
            if let learn {
                guard learn.count == tokens.count else {
                    throw GraftError(.usage, "tokens and what to learn of them are not of one length: \(tokens.count) and \(learn.count)")
                }
                lent.learn = copy(learn.map { $0 ? UInt8(1) : 0 })
            }
        }
        return lent
    }
}

/// Lends rows for the time of `body`.
func withRows<Result>(_ rows: [Row], _ body: (UnsafeBufferPointer<graft_row>) throws -> Result) throws -> Result {
    let lent = try Rows(rows)
    return try withExtendedLifetime(lent) { try lent.rows.withUnsafeBufferPointer(body) }
}
