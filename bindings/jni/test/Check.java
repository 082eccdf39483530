import dev.graft.Adapter;
import dev.graft.GenerateOptions;
import dev.graft.GraftException;
import dev.graft.Model;
import java.nio.file.Path;

/** What tests have in common: the data, and what is asked of results. */
abstract class Check {
    static String tiny;
    static String real;
    static String demo;
    static Path scratch;

    interface Test {
        void run() throws Exception;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object found, Object expected) {
        check(expected.equals(found), "expected " + expected + ", found " + found);
    }

    static <E extends Throwable> E thrown(Class<E> kind, Test test) throws Exception {
        try {
            test.run();
        } catch (Throwable e) {
            if (kind.isInstance(e)) {
                return kind.cast(e);
            }
            throw new AssertionError("expected " + kind + ", found " + e, e);
        }
        throw new AssertionError("expected " + kind + ", found nothing");
    }

    static GraftException graft(GraftException.Status status, Test test) throws Exception {
        GraftException e = thrown(GraftException.class, test);
        check(e.getStatus() == status, "expected " + status + ", found " + e.getStatus() + ": " + e.getMessage());
        check(e.getMessage().length() > status.name().length(), "says no more than its status: " + e.getMessage());
        return e;
    }

    static Model tinyModel() {
        return Model.open(tiny + "/model.gguf");
    }

    static Adapter tinyAdapter(Model model, String name) {
        return model.openAdapter(tiny + "/adapters/" + name);
    }

    static GenerateOptions tokens(long n) {
        GenerateOptions options = new GenerateOptions();
        options.maxTokens = n;
        options.ignoreEos = true;
        return options;
    }
}
