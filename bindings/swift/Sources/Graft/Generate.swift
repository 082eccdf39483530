import CGraft

extension Session {
    /// Goes on from a prompt and gives each piece of the text as soon as it is certain: whole characters that cannot be the beginning of a
    /// stop string.
    ///
    /// It begins at once, after what this session was asked for before, and does not wait for who reads. Cancelling the task that
    /// reads, or leaving the loop, ends it after the token that is under way; the session goes on with the next call as if the text had
    /// ended there.
    ///
    /// - Parameter onReport: Is told at the end what was done, unless an error ended it.
    /// - Returns: The stream, which throws `GraftError` for a prompt that is empty or does not fit the context, and for options out of
    ///   range.
    public func generate(
        _ prompt: Prompt, options: GenerateOptions = GenerateOptions(), onReport: (@Sendable (Report) -> Void)? = nil
    ) -> AsyncThrowingStream<String, Error> {
        AsyncThrowingStream { continuation in
            do {
                let cancel = try CancelFlag()
                continuation.onTermination = { reason in
                    if case .cancelled = reason { cancel.set() }
                }
                queue.async {
                    do {
                        let report = try self.generate(prompt, options, cancel) { continuation.yield($0) }
                        onReport?(report)
                        continuation.finish()
                    } catch is CancellationError {
                        continuation.finish()
                    } catch {
                        continuation.finish(throwing: error)
                    }
                }
            } catch {
                continuation.finish(throwing: error)
            }
        }
    }

    /// Goes on from a prompt and gives the whole text.
    ///
    /// - Throws: `GraftError` as the stream of ``generate(_:options:onReport:)``; `CancellationError` where the task was cancelled.
    public func answer(_ prompt: Prompt, options: GenerateOptions = GenerateOptions()) async throws -> Answer {
        let cancel = try CancelFlag()
        let answer = try await withTaskCancellationHandler {
            try await queue.result {
                var text = ""
                let report = try self.generate(prompt, options, cancel) { text += $0 }
                return Answer(text: text, report: report)
            }
        } onCancel: {
            cancel.set()
        }
        try Task.checkCancellation()
        return answer
    }

    /// The call itself, on the session's queue.
    private func generate(
        _ prompt: Prompt, _ options: GenerateOptions, _ cancel: CancelFlag, _ onText: @escaping (String) -> Void
    ) throws -> Report {
        let reader = Reader(onText)
        let user = Unmanaged.passUnretained(reader).toOpaque()
        var report = graft_report()
        report.struct_size = MemoryLayout<graft_report>.stride
        let sampler = try options.sampling.makeSampler(handle)
        try withExtendedLifetime((reader, sampler, cancel)) {
            try options.withC(sampler, cancel) { options in
                switch prompt {
                case .text(let text):
                    try withText(text) { text in
                        try check {
                            graft_generate_text(handle.pointer, text.data, text.len, options, Reader.read, user, &report, $0)
                        }
                    }
                case .tokens(let tokens):
                    try check {
                        graft_generate_tokens(handle.pointer, tokens, tokens.count, options, Reader.read, user, &report, $0)
                    }
                case .chat(let messages, let chat):
                    try withMessages(messages) { messages in
                        try chat.withC { chat in
                            try check {
                                graft_generate_messages(
                                    handle.pointer, messages.baseAddress, messages.count, chat, options, Reader.read, user, &report, $0)
                            }
                        }
                    }
                }
            }
        }
        return Report(report)
    }
}

/// Takes text from the C interface.
private final class Reader {
    let onText: (String) -> Void

    init(_ onText: @escaping (String) -> Void) { self.onText = onText }

    static let read: graft_text_callback = { text, length, _, user in
        if length > 0 { Unmanaged<Reader>.fromOpaque(user!).takeUnretainedValue().onText(string(text, length)) }
        return 0
    }
}

/// What to go on from.
public enum Prompt: Sendable {
    /// A text, which is appended to the conversation.
    case text(String)
    /// Tokens, which are appended to the conversation.
    case tokens([UInt32])
    /// A whole conversation, through the model's chat template. What the session holds of it already is kept, other tokens are forgotten.
    case chat([ChatMessage], ChatOptions = ChatOptions())
}

/// How to choose the next token.
public struct SamplingOptions: Hashable, Sendable {
    /// 0 takes the most likely token; 1 is the model's own distribution; above 1 flattens it.
    public var temperature: Float = 0
    /// Keep this many of the most likely tokens; 0 keeps all.
    public var topK = 0
    /// Keep the most likely tokens that together have this probability; 1 keeps all.
    public var topP: Float = 1
    /// Keep tokens that are at least this many times as likely as the most likely one; 0 keeps all.
    public var minP: Float = 0
    /// Makes tokens of the last `repeatLastN` less likely; 1 is off.
    public var repeatPenalty: Float = 1
    /// How many of the last tokens count as seen.
    public var repeatLastN = 64
    /// Subtracted from a seen token's score once for each time.
    public var frequencyPenalty: Float = 0
    /// Subtracted from a seen token's score once.
    public var presencePenalty: Float = 0
    /// The same seed gives the same text; `nil` gives another one each time.
    public var seed: UInt64?
    /// Added to the scores of these tokens; minus infinity bans a token.
    public var bias: [UInt32: Float] = [:]

    /// The most likely token, always.
    public init() {}

    /// At random, with this temperature.
    public init(temperature: Float, topP: Float = 1, seed: UInt64? = nil) {
        self.temperature = temperature
        self.topP = topP
        self.seed = seed
    }

    func makeSampler(_ session: Handle) throws -> Handle {
        try withC(seed: seed ?? .random(in: .min ... .max)) { options in
            try Handle(freedBy: graft_sampler_free) { graft_sampler_new(session.pointer, options, $0, $1) }
        }
    }

    func withC<Result>(seed: UInt64, _ body: (UnsafePointer<graft_sampler_options>) throws -> Result) rethrows -> Result {
        let bias = bias.map { graft_logit_bias(token: $0.key, bias: $0.value) }
        return try bias.withUnsafeBufferPointer { bias in
            var options = graft_sampler_options()
            graft_sampler_options_init(&options, MemoryLayout<graft_sampler_options>.stride)
            options.temperature = temperature
            options.top_k = UInt32(clamping: topK)
            options.top_p = topP
            options.min_p = minP
            options.repeat_penalty = repeatPenalty
            options.repeat_last_n = UInt32(clamping: repeatLastN)
            options.frequency_penalty = frequencyPenalty
            options.presence_penalty = presencePenalty
            options.seed = seed
            options.logit_bias = bias.baseAddress
            options.n_logit_bias = bias.count
            return try body(&options)
        }
    }
}

/// When to end, and how to choose tokens.
public struct GenerateOptions: Hashable, Sendable {
    /// How to choose the next token.
    public var sampling = SamplingOptions()
    /// The most tokens to generate, at least 1; `nil` goes on until the model or the context ends.
    public var maxTokens: Int?
    /// Ends where the text holds one of these; the text ends before it.
    public var stop: [String] = []
    /// When the context is full, drop half of the tokens after the first `keep` and go on; `nil` ends there.
    public var keep: Int?
    /// Go on after the model's end-of-generation tokens.
    public var ignoresEnd = false
    /// Show the text of control tokens.
    public var showsSpecial = false

    /// Until the model or the context ends, the most likely token always.
    public init() {}

    /// At most `maxTokens`, chosen so.
    public init(maxTokens: Int?, sampling: SamplingOptions = SamplingOptions()) {
        self.maxTokens = maxTokens
        self.sampling = sampling
    }

    func withC<Result>(
        _ sampler: Handle?, _ cancel: CancelFlag, _ body: (UnsafePointer<graft_generate_options>) throws -> Result
    ) rethrows -> Result {
        try withTexts(stop) { stop in
            var options = graft_generate_options()
            graft_generate_options_init(&options, MemoryLayout<graft_generate_options>.stride)
            if let maxTokens { options.max_tokens = UInt64(max(maxTokens, 1)) } // 0 is no limit there
            (options.stop, options.n_stop) = (stop.baseAddress, stop.count)
            options.ignore_eos = ignoresEnd ? 1 : 0
            options.show_special = showsSpecial ? 1 : 0
            if let keep { options.keep = Int64(keep) }
            options.sampler = sampler?.pointer
            options.cancel = cancel.handle.pointer
            return try body(&options)
        }
    }
}

/// A text and how it came about.
public struct Answer: Sendable {
    /// The text.
    public let text: String
    /// What was done.
    public let report: Report
}

/// What was done and how long it took.
public struct Report: Hashable, Sendable {
    /// Why it ended.
    public enum Finish: Sendable {
        /// The model said so.
        case end
        /// A stop string was reached.
        case stop
        /// `maxTokens` were generated.
        case length
        /// It was cancelled.
        case cancelled
        /// The context is full.
        case context
    }

    /// Why it ended.
    public let finish: Finish
    /// Tokens of the prompt that were evaluated.
    public let promptTokens: Int
    /// Tokens of the prompt that the session already had.
    public let reusedTokens: Int
    /// New tokens.
    public let tokens: Int
    /// Time for the prompt.
    public let promptSeconds: Double
    /// Time for the new tokens.
    public let generationSeconds: Double

    init(_ report: graft_report) {
        finish = switch report.finish {
        case GRAFT_FINISH_STOP: .stop
        case GRAFT_FINISH_LENGTH: .length
        case GRAFT_FINISH_CANCELLED: .cancelled
        case GRAFT_FINISH_CONTEXT: .context
        default: .end
        }
        promptTokens = Int(report.prompt_tokens)
        reusedTokens = Int(report.reused_tokens)
        tokens = Int(report.tokens)
        promptSeconds = report.prompt_seconds
        generationSeconds = report.generation_seconds
    }
}
