import Foundation
import XCTest

@testable import Graft

final class MergeTests: XCTestCase {
    private let options = GenerateOptions(maxTokens: 12)
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)").path

    override func setUpWithError() throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(atPath: folder)
    }

    func testAMergedModelSaysWhatTheAdapterSays() async throws {
        let model = try await Model.open(path: tinyModel)
        let adapter = try await model.openAdapter(path: "\(tiny)/adapters/qv")
        let session = try model.makeSession()
        try await session.setAdapter(adapter)
        let expected = try await session.answer(.text("Once"), options: options).text

        let last = Locked<Float>(0)
        var merging = MergeOptions()
        merging.format = .named("F32")
        merging.progress = { last.set($0) }
        let merged = try await model.merged([WeightedAdapter(adapter)], options: merging)
        let inMemory = try await merged.makeSession().answer(.text("Once"), options: options).text
        XCTAssertEqual(inMemory, expected)
        XCTAssertEqual(last.get(), 1)

        let path = "\(folder)/merged.gguf"
        try await model.merge([WeightedAdapter(adapter)], to: path, options: merging)
        let fromFile = try await Model.open(path: path).makeSession().answer(.text("Once"), options: options).text
        XCTAssertEqual(fromFile, expected)

        merging.format = .named("Q99")
        let wrong = await graftError { [merging] in try await model.merged([WeightedAdapter(adapter)], options: merging) }
        XCTAssertEqual(wrong?.item, "format")
    }

    func testAdaptersAreCombined() async throws {
        let adapters = ["qv", "rslora"].map { "\(tiny)/adapters/\($0)" }
        try await Combination.write([(adapters[0], 0.5), (adapters[0], 0.5)], to: "\(folder)/both", options: CombineOptions(kind: "cat"))
        let model = try await Model.open(path: tinyModel)
        let (one, both) = (try model.makeSession(), try model.makeSession())
        try await one.setAdapter(model.openAdapter(path: adapters[0]))
        try await both.setAdapter(model.openAdapter(path: "\(folder)/both"))
        let expected = try await one.answer(.text("Once"), options: options).text
        let combined = try await both.answer(.text("Once"), options: options).text
        XCTAssertEqual(combined, expected)
        let wrong = await graftError {
            try await Combination.write([(adapters[1], 1)], to: "\(folder)/none", options: CombineOptions(kind: "no such kind"))
        }
        XCTAssertEqual(wrong?.item, "kind")
    }

    func testCancellingEndsAMerge() async throws {
        let model = try await Model.open(path: realModel())
        let adapter = try await model.openAdapter(path: "\(repository)/demo/adapters/stage-verse")
        let begun = expectation(description: "the merge has begun")
        begun.assertForOverFulfill = false
        var merging = MergeOptions()
        merging.progress = { _ in begun.fulfill() }
        let task = Task { [merging] in try await model.merged([WeightedAdapter(adapter)], options: merging) }
        await fulfillment(of: [begun], timeout: 60)
        task.cancel()
        do {
            _ = try await task.value
            XCTFail("merged")
        } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
    }
}
