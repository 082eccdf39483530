import Foundation
import XCTest

@testable import Graft

final class SessionTests: XCTestCase {
    func testAStreamIsWhatTheProgramPrints() async throws {
        let model = try await Model.open(path: tinyModel)
        let report = Locked<Report?>(nil)
        let text = try await collect(
            model.makeSession().generate(.text("Once upon a time"), options: GenerateOptions(maxTokens: 24)) { report.set($0) })
        XCTAssertEqual(text + "\n", try graftRun(["-m", tinyModel, "-p", "Once upon a time", "-n", "24"]))
        XCTAssertEqual(report.get()?.tokens, 24)
        XCTAssertEqual(report.get()?.finish, .length)
    }

    func testThreeAdaptersInOneConversation() async throws {
        let model = try await Model.open(path: tinyModel)
        let session = try model.makeSession()
        let options = GenerateOptions(maxTokens: 12)
        var answers: [String] = []
        for name in tinyAdapters {
            let adapter = try await model.openAdapter(path: "\(tiny)/adapters/\(name)")
            XCTAssertGreaterThan(adapter.info.sites, 0)
            XCTAssertGreaterThan(adapter.info.maximumRank, 0)
            try await session.setAdapter(adapter)
            answers.append(try await session.answer(.text(" and then"), options: options).text)
        }
        XCTAssertEqual(Set(answers).count, tinyAdapters.count, "\(answers)")
        let position = try await session.tokens.count
        XCTAssertGreaterThan(position, 3 * 12)

        // Without its past the last adapter says what the program says, and none is the model alone.
        for (name, arguments) in [("rslora", ["-a", "\(tiny)/adapters/rslora"]), (nil, [])] as [(String?, [String])] {
            try await session.reset()
            if name == nil { try await session.setAdapter(nil) }
            let text = try await session.answer(.text("Once"), options: options).text
            XCTAssertEqual(text + "\n", try graftRun(["-m", tinyModel, "-p", "Once", "-n", "12"] + arguments))
        }
    }

    func testEightTasksEachWithASession() async throws {
        let model = try await Model.open(path: tinyModel)
        let adapter = try await model.openAdapter(path: "\(tiny)/adapters/qv")
        let texts = try await withThrowingTaskGroup(of: (Int, String).self) { group in
            for index in 0..<8 {
                group.addTask {
                    let session = try model.makeSession()
                    if index % 2 == 1 { try await session.setAdapter(adapter) }
                    return (index % 2, try await session.answer(.text("Once"), options: GenerateOptions(maxTokens: 40)).text)
                }
            }
            return try await group.reduce(into: [:]) { $0[$1.0, default: Set<String>()].insert($1.1) }
        }
        XCTAssertEqual(texts[0]?.count, 1)
        XCTAssertEqual(texts[1]?.count, 1)
        XCTAssertNotEqual(texts[0], texts[1])
    }

    func testCallsOfOneSessionQueueUp() async throws {
        let session = try await Model.open(path: tinyModel).makeSession()
        let streams = (0..<4).map { _ in session.generate(.text("Once"), options: GenerateOptions(maxTokens: 10)) }
        for stream in streams {
            let text = try await collect(stream)
            XCTAssertFalse(text.isEmpty)
        }
    }

    func testAModelMayGoBeforeItsSessionsAndAdapters() async throws {
        func open() async throws -> (Session, Adapter) {
            let model = try await Model.open(path: tinyModel)
            return (try model.makeSession(), try await model.openAdapter(path: "\(tiny)/adapters/qv"))
        }
        let (session, adapter) = try await open()
        try await session.setAdapter(adapter)
        let text = try await session.answer(.text("Once"), options: GenerateOptions(maxTokens: 4)).text
        XCTAssertFalse(text.isEmpty)
    }

    func testCancellingATaskEndsItsGeneration() async throws {
        let session = try await Model.open(path: tinyModel).makeSession()
        var options = GenerateOptions(maxTokens: 1_000_000)
        (options.ignoresEnd, options.keep) = (true, 0)
        let begun = expectation(description: "there is text")
        let ended = expectation(description: "the stream's generation has ended")
        let report = Locked<Report?>(nil)
        let reading = Task { [options] in
            var pieces = 0
            for try await _ in session.generate(.text("Once"), options: options, onReport: { report.set($0); ended.fulfill() }) {
                if pieces == 0 { begun.fulfill() }
                pieces += 1
            }
            return pieces
        }
        await fulfillment(of: [begun], timeout: 60)
        reading.cancel()
        await fulfillment(of: [ended], timeout: 60)
        let pieces = try await reading.value
        XCTAssertGreaterThan(pieces, 0)
        XCTAssertEqual(report.get()?.finish, .cancelled)

        // The context may be full by now.
        try await session.reset()
        let waiting = Task { [options] in try await session.answer(.text("Once"), options: options) }
        try await Task.sleep(nanoseconds: 50_000_000)
        waiting.cancel()
        do {
            _ = try await waiting.value
            XCTFail("answered")
        } catch { XCTAssertTrue(error is CancellationError, "\(error)") }

        // Leaving the loop ends it too, and the session goes on.
        try await session.reset()
        for try await _ in session.generate(.text("Once"), options: options) { break }
        try await session.reset()
        let text = try await session.answer(.text("Once"), options: GenerateOptions(maxTokens: 4)).text
        XCTAssertFalse(text.isEmpty)
    }

    func testErrorsComeThroughTheStream() async throws {
        let session = try await Model.open(path: tinyModel).makeSession()
        let empty = await graftError { try await collect(session.generate(.tokens([]))) }
        XCTAssertEqual(empty?.status, .usage)
        let outside = await graftError { try await session.evaluate([.max]) }
        XCTAssertEqual(outside?.status, .usage)
        let hot = await graftError {
            try await session.answer(.text("a"), options: GenerateOptions(maxTokens: 1, sampling: SamplingOptions(temperature: -1)))
        }
        XCTAssertEqual(hot?.item, "temperature")
        let short = await graftError { try await session.truncate(to: 1000) }
        XCTAssertEqual(short?.status, .usage)
    }

    func testASeedRepeatsATextAndAStopStringEndsIt() async throws {
        let model = try await Model.open(path: tinyModel)
        var options = GenerateOptions(maxTokens: 30, sampling: SamplingOptions(temperature: 1.5, seed: 7))
        let first = try await model.makeSession().answer(.text("Once"), options: options).text
        let second = try await model.makeSession().answer(.text("Once"), options: options).text
        XCTAssertEqual(first, second)
        let stop = String(first.dropFirst(10).prefix(3))
        options.stop = ["never in it", stop]
        let stopped = try await model.makeSession().answer(.text("Once"), options: options)
        XCTAssertEqual(stopped.report.finish, .stop)
        XCTAssertEqual(stopped.text, String(first[..<first.range(of: stop)!.lowerBound]))
    }

    func testAConversationKeepsWhatItHas() async throws {
        let session = try await Model.open(path: tinyModel).makeSession()
        let options = GenerateOptions(maxTokens: 5)
        let first = try await session.answer(.chat([.user("Hello")]), options: options)
        XCTAssertEqual(first.report.reusedTokens, 0)
        let next: [ChatMessage] = [.user("Hello"), .assistant(first.text), .user("And?")]
        let second = try await session.answer(.chat(next), options: options)
        XCTAssertGreaterThan(second.report.reusedTokens, 0)
    }

    func testARealModelWithItsDemoAdapters() async throws {
        let path = try realModel()
        let model = try await Model.open(path: path)
        let prompt = "Maria Lopez, 34, moved from Lisbon to Oslo in 2019 to work as a nurse."
        let session = try model.makeSession()
        for name in ["json-extract", "stage-verse"] {
            let folder = "\(repository)/demo/adapters/\(name)"
            try await session.setAdapter(model.openAdapter(path: folder))
            let text = try await collect(session.generate(.chat([.user(prompt)]), options: GenerateOptions(maxTokens: 24)))
            let expected = try graftRun(["-m", path, "-a", folder, "--chat", "-p", prompt, "-n", "24"])
            XCTAssertEqual(text + "\n", expected)
            try await session.reset()
        }
    }
}
