import CGraft

extension Model {
    /// Text to tokens.
    ///
    /// - Parameters:
    ///   - parsingSpecial: Control tokens that are written out (`<|im_end|>`) become these tokens. Leave it off for text that a user wrote.
    ///   - addingEnds: The begin and end tokens that the model's own rules ask for are added.
    /// - Throws: `GraftError` for a model without a tokenizer.
    public func tokenize(_ text: String, parsingSpecial: Bool = false, addingEnds: Bool = false) throws -> [UInt32] {
        let flags = (parsingSpecial ? UInt32(GRAFT_TOKENIZE_SPECIAL) : 0) | (addingEnds ? UInt32(GRAFT_TOKENIZE_BOS_EOS) : 0)
        return try withText(text) { text in
            try takeArray { graft_tokenize(handle.pointer, text.data, text.len, flags, $0, $1, $2) }
        }
    }

    /// Tokens to text, with or without the text of control tokens. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// - Throws: `GraftError` for tokens outside the vocabulary and a model without a tokenizer.
    public func detokenize(_ tokens: [UInt32], skippingSpecial: Bool = true) throws -> String {
        try takeText { graft_detokenize(handle.pointer, tokens, tokens.count, skippingSpecial ? 1 : 0, $0, $1, $2) }
    }

    /// A conversation as the text that the model's chat template makes of it.
    ///
    /// - Throws: `GraftError` for a model without a chat template, and what the template itself refuses.
    public func render(_ messages: [ChatMessage], options: ChatOptions = ChatOptions()) throws -> String {
        try withMessages(messages) { messages in
            try options.withC { options in
                try takeText { graft_chat_render(handle.pointer, messages.baseAddress, messages.count, options, $0, $1, $2) }
            }
        }
    }
}

/// One turn of a conversation.
public struct ChatMessage: Hashable, Sendable {
    /// `system`, `user`, `assistant`, `tool`, …
    public var role: String
    /// The text.
    public var content: String
    /// A JSON object with everything else that the template reads (`tool_calls`, `name`, …).
    public var extra: String?

    /// What `role` says.
    public init(role: String, content: String, extra: String? = nil) {
        self.role = role
        self.content = content
        self.extra = extra
    }

    /// What the conversation is about.
    public static func system(_ content: String) -> ChatMessage { ChatMessage(role: "system", content: content) }
    /// What the user says.
    public static func user(_ content: String) -> ChatMessage { ChatMessage(role: "user", content: content) }
    /// What the model said.
    public static func assistant(_ content: String) -> ChatMessage { ChatMessage(role: "assistant", content: content) }
}

/// How a conversation becomes text.
public struct ChatOptions: Hashable, Sendable {
    /// A Jinja template to use instead of the model's.
    public var template: String?
    /// Whether the text ends with the beginning of the assistant's next turn.
    public var addingGenerationPrompt = true
    /// A JSON array of the tools that the model may call.
    public var tools: String?

    /// An answer is to follow; no tools.
    public init() {}

    func withC<Result>(_ body: (UnsafePointer<graft_chat_options>) throws -> Result) rethrows -> Result {
        try withTexts([tools ?? "", template ?? ""]) { texts in
            var options = graft_chat_options()
            graft_chat_options_init(&options, MemoryLayout<graft_chat_options>.stride)
            options.add_generation_prompt = addingGenerationPrompt ? 1 : 0
            if tools != nil { (options.tools, options.tools_len) = (texts[0].data, texts[0].len) }
            if template != nil { (options.template_source, options.template_source_len) = (texts[1].data, texts[1].len) }
            return try body(&options)
        }
    }
}

func withMessages<Result>(_ messages: [ChatMessage], _ body: (UnsafeBufferPointer<graft_message>) throws -> Result) rethrows -> Result {
    try withTexts(messages.flatMap { [$0.role, $0.content, $0.extra ?? ""] }) { texts in
        let lent = messages.indices.map { index in
            let (role, content, extra) = (texts[3 * index], texts[3 * index + 1], texts[3 * index + 2])
            return graft_message(
                role: role.data, role_len: role.len, content: content.data, content_len: content.len,
                extra: messages[index].extra == nil ? nil : extra.data, extra_len: extra.len)
        }
        return try lent.withUnsafeBufferPointer(body)
    }
}
