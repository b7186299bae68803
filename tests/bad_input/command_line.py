"""The command line and the environment."""

from bad_input.case import RUN, SMALL, Case

NAMES = {
    "a path upward": "../x",
    "a path": "a/b",
    "an absolute path": "/abs",
    "two dots": "..",
    "one dot": ".",
    "empty": "",
    "a line end": "a\nb",
    "a terminal's escape": "\x1b[2J",
    "a tag": "<b>",
    "300 letters": "x" * 300,
    "a dash first": "-x",
    "an underscore first": "_x",
    "a device of Windows": "con",
    "a dot last": "x.",
    "another alphabet": "模型",
    "not UTF-8": "a\udcff",
}
CASES = {
    "unknown command": Case("reprot", 2, ("No such command 'reprot'", "did you mean 'report'")),
    "unknown option": Case("run --sampels 3", 2, ("No such option", "--samples")),
    "a report in the working folder": Case("report runs -o .", 2, "working folder", runs=True),
    "a report around its runs": Case(f"{RUN} --report pages --out pages/runs", 2, ("--report pages", "pages/runs")),
    "an argument too many": Case("run a.toml b.toml", 2, "b.toml"),
    "an option without its value": Case("run -m", 2, "-m"),
    "unknown model": Case("run -m ddpmm", 2, ("ddpmm", "did you mean 'ddpm'")),
    "a model in other letters": Case("run -m DDPM", 2, ("DDPM", "did you mean 'ddpm'")),
    "a model twice": Case("run -m vae -m vae", 2, "vae is given twice"),
    "an empty model": Case(["run", "-m", ""], 2, "name"),
    "a model with a path for a name": Case("run -m ../x", 2, "../x"),
    "unknown dataset": Case("run -m vae -d mnsit", 2, ("mnsit", "did you mean 'mnist'")),
    "a dataset twice": Case("run -m vae -d digits -d digits", 2, "digits is given twice"),
    "unknown extractor": Case(f"{RUN} --extractor inception", 2, "did you mean 'inception-v3-compat'"),
    "unknown extractor, told before images are prepared": Case(
        "run -m vae -d mine --datasets mine.toml --extractor inception", 2, "did you mean 'inception-v3-compat'",
        {"mine.toml": "[mine]\nsource = 'folder'\npath = 'nowhere'\nshape = [1, 8, 8]\n"},
    ),
    "extractor of other images": Case(f"{RUN} --extractor mnist-classifier-v1", 2, ("1x28x28", "1x8x8")),
    "weights that are not there": Case(
        f"{RUN} --extractor inception-v3-compat --offline --weights nowhere", 4, ("nowhere", "--weights")
    ),
    "weights of another network": Case(
        f"{RUN} --extractor inception-v3-compat --offline --weights w.pth", 3, ("w.pth", "SHA-256"), {"w.pth": b"x"}
    ),
    "a dataset for a list": Case("extractors -d digits --samples 50", 2, ("-d, --samples", "--check")),
    "two kinds of condition": Case(f"{RUN} --conditional --condition text", 2, ("conditional", "text", "one of")),
    "negative seed": Case([*RUN.split(), "--seeds", "-1"], 2, "--seeds -1"),
    "seed with a fraction": Case(f"{RUN} --seeds 1.5", 2, "--seeds 1.5"),
    "seed that is a word": Case(f"{RUN} --seeds abc", 2, "0,1,2"),
    "seed beyond 2**63": Case(f"{RUN} --seeds 99999999999999999999999,", 2, "2**63 - 1"),
    "a million seeds": Case(f"{RUN} --seeds 1000000", 2, "10,000"),
    "a seed twice": Case(f"{RUN} --seeds 3,3", 2, "seed 3 is given twice"),
    "budget without unit": Case(f"{RUN} --budget 1000000", 2, ("1000000", "2000steps")),
    "budget of nothing": Case(f"{RUN} --budget 0steps", 2, "0steps"),
    "negative budget": Case([*RUN.split(), "--budget=-5steps"], 2, "-5steps"),
    "budget that is no number": Case(f"{RUN} --budget nans", 2, "nans"),
    "endless budget": Case(f"{RUN} --budget 1e999s", 2, "1e999s"),
    "half a step": Case(f"{RUN} --budget 1.5steps", 2, "whole numbers"),
    "one sample": Case(f"{RUN} --samples 1", 2, "--samples"),
    "more samples than the real row has": Case(f"{RUN} --samples 1443", 2, ("1443", "1442")),
    "samples in words": Case(f"{RUN} --samples ten", 2, ("ten", "--samples")),
    "unknown device": Case(f"{RUN} --device gpu", 2, ("gpu", "cuda:0,cuda:1")),
    "a device that genbench does not use": Case(f"{RUN} --device meta", 2, "meta"),
    "absent device": Case(f"{RUN} --device cuda:77", 4, ("cuda:77", "cuda device(s)")),
    "a device twice": Case(f"{RUN} --device cpu,cpu", 2, "twice"),
    "a device of -1": Case(f"{RUN} --device cuda:-1", 2, "cuda:-1"),
    "unknown precision": Case(f"{RUN} --precision fp8", 2, ("fp8", "bf16")),
    "no jobs at a time": Case(f"{RUN} --jobs 0", 2, "--jobs"),
    "ten thousand jobs at a time": Case(f"{RUN} --jobs 10000", 2, "--jobs"),
    "no processes": Case(f"{RUN} --processes 0", 2, "--processes"),
    "processes that cannot share a batch": Case(f"{RUN} --processes 3", 2, ("3 processes", "micro_batch")),
    "processes that cannot share a memory": Case("plan -m ebm -d digits --processes 2", 2, ("--processes 2", "use --processes 1")),
    "no time": Case(f"{RUN} --timeout 0", 2, "--timeout"),
    "time that is no number": Case(f"{RUN} --timeout nan", 2, "--timeout"),
    "no points of a curve": Case(f"{RUN} --curve 0", 2, "--curve"),
    "labels where there are none": Case(
        f"run -m vae -d mine --datasets d.toml --conditional {SMALL}",
        2,
        ("mine", "no labels"),
        {"d.toml": '[mine]\nsource = "array"\npath = "a.npy"\nshape = [1, 8, 8]\n', "a.npy": "unread"},
    ),
    "a suite that ships, and images without labels": Case(
        "plan table1 -d mine --datasets d.toml",
        2,
        ("no labels", "leave out the rows that ask for them (EBM, JEM,", "`genbench suites table1 > mine.toml`"),
        {"d.toml": '[mine]\nsource = "array"\npath = "a.npy"\nshape = [1, 8, 8]\n', "a.npy": "unread"},
    ),
    "a setting without value": Case(f"{RUN} --set gaussian.batch_size", 2, ("gaussian.batch_size", "MODEL.KEY=VALUE")),
    "a setting without model": Case(f"{RUN} --set batch_size=3", 2, "MODEL.KEY=VALUE"),
    "a setting of another model": Case(f"{RUN} --set vae.width=3", 2, "no model 'vae'"),
    "unknown setting": Case(f"{RUN} --set gaussian.batchsize=3", 2, ("batchsize", "did you mean 'batch_size'")),
    "a latent of one dimension with couplings": Case("plan -m vae -d digits --set vae.latent=1", 2, ("'vae'", "set couplings = 0")),
    "a cascade's base with an odd number of sines and cosines": Case("plan -m cascade -d digits --set cascade.base_widths=[33,64]", 2, ("'cascade'", "the base's widths: 33 is odd")),
    "an odd number of sines and cosines": Case("plan -m score -d digits --set score.widths=[7,9]", 2, ("'score'", "widths: 7 is odd")),
    "waves that no level follows": Case("plan -m pixelcnn -d digits --set pixelcnn.waves=200", 2, ("'pixelcnn'", "waves", "equal to 8")),
    "a network whose statistics are of one channel": Case("plan -m score -d digits --set score.width=1", 2, ("'score'", "width", "equal to 2")),
    "no channels": Case("plan -m score -d digits --set score.widths=[0,-3]", 2, ("'score'", "widths", "greater than 0")),
    "no channels of a first stage": Case("plan -m ldm -d digits --set ldm.ae_widths=[8,0]", 2, ("'ldm'", "ae_widths", "greater than 0")),
    "a guide that was not trained": Case("plan -m ddpm -d digits --conditional --set ddpm.classifier_scale=2", 2, ("'ddpm'", "classifier_scale: 2", "set classifier to true")),
    "a classifier without classes": Case("plan -m ldm -d digits --set ldm.preset=small-guided", 2, ("'ldm'", "classifier: true needs labels", "not conditional")),
    "guidance beyond all measure": Case("plan -m ddpm -d digits --conditional --set ddpm.preset=small-guided --set ddpm.classifier_scale=1e30", 2, ("'ddpm'", "classifier_scale", "less than or equal to 1000")),
    "a classifier that takes all of the budget": Case("plan -m ldm -d digits --conditional --set ldm.classifier=true --set ldm.classifier_share=0.8", 2, ("'ldm'", "classifier_share: 0.8", "leave nothing")),
    "a classifier's odd number of sines and cosines": Case("plan -m ddpm -d digits --conditional --set ddpm.classifier=true --set ddpm.classifier_widths=[9]", 2, ("'ddpm'", "classifier_widths: 9 is odd")),
    "a shorter process than one step": Case("plan -m ddpm -d digits --set ddpm.sampler=respaced --set ddpm.steps=0", 2, ("'ddpm'", "steps", "equal to 1")),
    "no channels of the base of a cascade": Case("plan -m cascade -d digits --set cascade.base_widths=[8,0]", 2, ("'cascade'", "base_widths", "greater than 0")),
    "more steps of a base than there are noise levels": Case("plan -m cascade -d digits --set cascade.base_steps=2000", 2, ("'cascade'", "the base's steps: 2000 is more than the 1000 timesteps")),
    "a codebook of one vector": Case("plan -m vqgan -d digits --set vqgan.codes=1", 2, ("'vqgan'", "codes", "equal to 2")),
    "a codebook of a million million vectors": Case("plan -m vqgan -d digits --set vqgan.codes=1000000000000", 2, ("codes", "less than")),
    "a critic that never begins": Case("plan -m vqgan -d digits --set vqgan.critic_start=1", 2, ("critic_start", "less than 1")),
    "a critic that is paid for": Case("plan -m vqgan -d digits --set vqgan.adversarial=-1", 2, ("adversarial", "equal to 0")),
    "a critic of images that are too small": Case(
        "plan -m vqgan -d digits --set vqgan.adversarial=1 --set vqgan.critic_layers=2", 2, ("'vqgan'", "critic_layers: 2", "12x12", "8x8")
    ),
    "a critic of images that are too small, in latent diffusion": Case(
        "plan -m ldm -d digits --set ldm.first_stage=vq --set ldm.adversarial=1", 2, ("'ldm'", "critic_layers: 2", "12x12", "8x8")
    ),
    "a first stage that there is none of": Case("plan -m ldm -d digits --set ldm.first_stage=gan", 2, ("first_stage", "'kl' or 'vq'")),
    "decay rates of more than all": Case("plan -m score -d digits --set score.betas=[0.9,1]", 2, ("'score'", "betas", "less than 1")),
    "setting of another type": Case(f"{RUN} --set gaussian.batch_size=three", 2, ("gaussian", "batch_size", "three")),
    "setting that is true": Case(f"{RUN} --set gaussian.batch_size=true", 2, ("batch_size", "true or false")),
    "setting that is a date": Case(f"{RUN} --set gaussian.batch_size=2020-01-01", 2, ("batch_size", "2020")),
    "setting that is infinite": Case(f"{RUN} --set gaussian.learning_rate=inf", 2, ("learning_rate", "finite")),
    "setting that is no number": Case(f"{RUN} --set gaussian.learning_rate=nan", 2, ("learning_rate", "finite")),
    "setting of nothing": Case(f"{RUN} --set gaussian.batch_size=0", 2, ("batch_size", "greater than or equal to 1")),
    "several wrong settings": Case(
        f"{RUN} --set gaussian.batch_size=0 --set gaussian.ema_decay=2 --set gaussian.x=1",
        2,
        ("batch_size", "ema_decay", "x: unknown key", "fix all 3"),
    ),
    "a sweep without values": Case(f"{RUN} --sweep gaussian.batch_size=", 2, ("no values", "MODEL.KEY=V,V,V")),
    "a sweep of another model": Case(f"{RUN} --sweep vae.width=3,4", 2, "no model 'vae'"),
    "a sweep of an unknown option": Case(
        f"{RUN} --sweep gaussian.batchsize=3,4", 2, ("gaussian-batchsize3", "did you mean 'batch_size'")
    ),
    "a sweep over a word": Case(f"{RUN} --sweep gaussian.batch_size=3,four", 2, ("batch_size", "four")),
    "a value twice in a sweep": Case(f"{RUN} --sweep gaussian.batch_size=3,4,3", 2, "a value is given twice"),
    "a sweep over what is set": Case(
        f"{RUN} --set gaussian.batch_size=3 --sweep gaussian.batch_size=3,4", 2, "batch_size of 'gaussian' is given twice"
    ),
    "unknown preset": Case("run -m vae -d digits --set vae.preset=huge", 2, ("huge", "tiny")),
    "out is a file": Case(f"{RUN} --out a-file/runs", 2, ("a-file", "is a file"), {"a-file": ""}),
    "missing suite": Case("run suite.toml", 2, ("suite.toml", "no such suite file")),
    "a folder for a suite": Case("run here", 2, ("here", "a folder"), {"here": None}),
    "missing datasets file": Case(f"{RUN} --datasets my.toml", 2, ("my.toml", "no such datasets file")),
    "data root is a file": Case(f"{RUN} --data-root a-file", 2, ("--data-root", "a-file"), {"a-file": ""}),
    "data that is not there": Case(
        "run -m vae -d cifar10 --data-root nowhere --offline", 4, ("CIFAR10", "nowhere", "--data-root")
    ),
    "report onto a file": Case(f"{RUN} --report a-file", 2, ("a-file", "not a folder"), {"a-file": ""}),
    "report below a file": Case(f"{RUN} --report a-file/pages", 2, ("--report", "a-file is a file"), {"a-file": ""}),
    "report onto something else": Case(
        f"{RUN} --report mine", 2, ("mine", "not a report"), {"mine/thesis.txt": "mine"}
    ),
    "unknown format": Case("table . --format xls", 2, ("xls", "csv")),
    "unknown layout": Case("table . --layout wide", 2, ("wide", "quality")),
    "no folder of runs": Case("table", 2, "RUNS"),
    "no place for a report": Case("report runs", 2, "--out"),
    "factor of zero": Case("table runs --v100-factor 0", 2, "--v100-factor 0"),
    "factor that is no number": Case("table runs --v100-factor nan", 2, "--v100-factor nan"),
    "factor in a file that is no calibration": Case(
        "table runs --v100-factor f.json", 2, ("f.json", "calibration"), {"f.json": "{"}
    ),
    "utilisation above one": Case("plan -m gaussian --v100-utilisation 2", 2, "--v100-utilisation"),
    "one run to compare": Case("compare runs", 2, "RUN_B"),
    "three runs to compare": Case("compare a b c", 2, "--labels"),
    "one label to compare": Case("compare runs --labels a", 2, "--labels"),
    "short and whole": Case("table runs --compact --full", 2, ("--compact", "--full")),
    "no images to draw": Case("sample runs -n 0", 2, "-n"),
    "a billion images to draw": Case("sample runs -n 1000000000", 2, "-n"),
    "a picture of another kind": Case("sample runs -o x.jpg", 2, ("x.jpg", "FILE.png")),
    "unknown device to calibrate": Case("calibrate --device gpu", 2, "gpu"),
    "calibration into no folder": Case("calibrate --v100 nowhere/f.json", 2, "nowhere/f.json"),
    "a cache that is a file": Case(RUN, 2, ("GENBENCH_CACHE", "a-file"), {"a-file": ""}, {"GENBENCH_CACHE": "a-file"}),
    "an empty cache": Case(RUN, 2, "GENBENCH_CACHE", {}, {"GENBENCH_CACHE": ""}),
    "an empty data root": Case(RUN, 2, "GENBENCH_DATA", {}, {"GENBENCH_DATA": ""}),
    "a data root that is a file": Case(RUN, 2, ("GENBENCH_DATA", "a-file"), {"a-file": ""}, {"GENBENCH_DATA": "a-file"}),
    "weights in a variable, absent": Case(
        f"{RUN} --extractor inception-v3-compat --offline", 4, "GENBENCH_WEIGHTS", {}, {"GENBENCH_WEIGHTS": "nowhere"}
    ),
    "plugins in a variable, unknown": Case(
        RUN, 2, ("GENBENCH_PLUGINS", "gausian", "did you mean 'gaussian'"), {}, {"GENBENCH_PLUGINS": "gausian"}
    ),
    "started by a launcher": Case(RUN, 2, ("WORLD_SIZE=2", "--processes"), {}, {"WORLD_SIZE": "2"}),
}  # fmt: skip
CASES |= {
    f"a row's name, {what}": Case(["evaluate", "x.npy", "-d", "digits", f"--name={name}"], 2, ("--name", "letters, digits"))
    for what, name in NAMES.items()
}  # fmt: skip
