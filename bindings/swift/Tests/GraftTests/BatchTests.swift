import Foundation
import XCTest

@testable import Graft

final class BatchTests: XCTestCase {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)").path

    override func setUpWithError() throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(atPath: folder)
    }

    private struct Record: Decodable {
        let id: String
        var text: String?
        var error: String?
    }

    private func record(_ text: String) throws -> Record {
        try JSONDecoder().decode(Record.self, from: Data(text.utf8))
    }

    private func options() -> BatchOptions {
        var options = BatchOptions()
        options.generate.maxTokens = 12
        return options
    }

    func testALineIsAnsweredAsASessionWould() async throws {
        let model = try await Model.open(path: tinyModel)
        let adapter = WeightedAdapter(try await model.openAdapter(path: "\(tiny)/adapters/qv"), weight: 0.5)
        let batch = try model.makeBatch(options: options())
        try await batch.setAdapter(adapter, named: "mine")
        let session = try model.makeSession()
        let plain = try await session.answer(.text("Once"), options: options().generate).text
        try await session.reset()
        try await session.setAdapters([adapter])
        let adapted = try await session.answer(.text("Once"), options: options().generate).text
        XCTAssertNotEqual(plain, adapted)

        let line = #"{"id": "a", "prompt": "Once"}"#
        let one = try record(try await batch.answer(line, number: 1))
        XCTAssertEqual(one.id, "a")
        XCTAssertEqual(one.text, plain)
        let other = try record(try await batch.answer(#"{"id": "b", "prompt": "Once", "adapter": "mine"}"#, number: 2))
        XCTAssertEqual(other.text, adapted)
        try await batch.addDefaultAdapter(adapter)
        let byDefault = try record(try await batch.answer(line, number: 3))
        XCTAssertEqual(byDefault.text, adapted)
        let wrong = try record(try await batch.answer(#"{"id": "c", "prompt": "Once", "adapter": "\#(tiny)/adapters/qv"}"#, number: 4))
        XCTAssertEqual(wrong.error?.contains("no such adapter"), true)

        let unnamed = await graftError { try await batch.setAdapter(adapter, named: "") }
        XCTAssertEqual(unnamed?.status, .usage)
        var outOfRange = options()
        outOfRange.session.context = 1 << 40
        let refused = await graftError { [outOfRange] in try model.makeBatch(options: outOfRange) }
        XCTAssertEqual(refused?.item, "context")
    }

    func testAFileGoesOnWhereItWasStopped() async throws {
        let model = try await Model.open(path: tinyModel)
        let batch = try model.makeBatch(options: options())
        let (input, output) = ("\(folder)/in.jsonl", "\(folder)/out.jsonl")
        let lines = (0..<6).map { #"{"id": "\#($0)", "prompt": "Line \#($0)"}"# } + [#"{"id": "6"}"#]
        try lines.joined(separator: "\n").write(toFile: input, atomically: true, encoding: .utf8)
        let last = Locked<Float>(0)
        let report = try await batch.run(input, to: output) { last.set($0) }
        XCTAssertEqual(report.before, 0)
        XCTAssertEqual(report.answered, 7)
        XCTAssertEqual(report.failed, 1)
        XCTAssertEqual(last.get(), 1)
        let whole = try String(contentsOfFile: output, encoding: .utf8)

        // Cancelled after two lines; a call that waits for it is not.
        try FileManager.default.removeItem(atPath: output)
        let told = Locked(0)
        let canceller = Locked<Task<BatchReport, Error>?>(nil)
        let begun = DispatchSemaphore(value: 0)
        let task = Task {
            try await batch.run(input, to: output) { _ in
                if told.get() == 0 { begun.wait() }
                told.set(told.get() + 1)
                if told.get() == 2 { canceller.get()?.cancel() }
            }
        }
        canceller.set(task)
        async let waiting = batch.answer(#"{"id": "w", "prompt": "Once"}"#, number: 1)
        begun.signal()
        do {
            _ = try await task.value
            XCTFail("it was not cancelled")
        } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
        let waited = try record(try await waiting)
        XCTAssertEqual(waited.id, "w")
        XCTAssertNotNil(waited.text)
        let stopped = try String(contentsOfFile: output, encoding: .utf8)
        XCTAssertEqual(stopped.split(separator: "\n").count, 2)
        let rest = try await batch.run(input, to: output)
        XCTAssertEqual(rest.before, 2)
        XCTAssertEqual(rest.answered, 5)
        let again = try String(contentsOfFile: output, encoding: .utf8)
        XCTAssertEqual(again, whole)

        let same = await graftError { try await batch.run(input, to: input) }
        XCTAssertEqual(same?.status, .usage)
    }
}
