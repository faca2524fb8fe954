"""Upload a finished data set folder to the Hub."""

from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

# load_dataset reads the Parquet files and README.md, and ignores the others.
FILES = ["README.md", "dataset_info.json", "report.json", "data/*.parquet"]
SIGN_IN = "sign in with `hf auth login`, or set HF_TOKEN, with a token that may write to {}"
ADVICE = {401: SIGN_IN, 403: SIGN_IN, 412: "{} was changed meanwhile, push again"}


def push_folder(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Upload a folder that [`write_parquet`] wrote to a data set repository on the Hub.

    The repository is created if it does not exist. One commit adds the files and deletes those of an earlier push that
    are not in the folder: readers get the old rows or the new ones, never a mixture.

    The files are uploaded unchanged; `DatasetDict.push_to_hub` would store a shared picture once per row.
    `HfApi.upload_folder` is not used because it splits a long upload into several commits.

    Args:
        folder: The folder.
        repo_id: `user/name` on the Hub.
        private: Create a private repository; refused if the repository is public already.

    Returns:
        The URL of the commit, or of the last one if nothing has changed.
    """
    folder = Path(folder)
    paths = {path.relative_to(folder).as_posix(): path for pattern in FILES for path in folder.glob(pattern)}
    if not {"README.md", "dataset_info.json"} <= paths.keys() or not any(name.startswith("data/") for name in paths):
        raise ValueError(
            f"{folder} is not a finished data set: README.md, dataset_info.json and data/*.parquet are needed, "
            "as dataset_scripts writes them"
        )
    api = HfApi()
    try:
        repo_id = api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True).repo_id
        info = api.dataset_info(repo_id)
        if private and not info.private:
            raise ValueError(f"{repo_id} is public: change that in its settings on the Hub, or leave out private")
        old = {
            file.rfilename for file in info.siblings or () if any(fnmatch(file.rfilename, pattern) for pattern in FILES)
        }
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationDelete(name) for name in sorted(old - paths.keys())
        ]
        operations += [CommitOperationAdd(name, path) for name, path in sorted(paths.items())]
        commit = api.create_commit(
            repo_id, operations, commit_message="Upload data set", repo_type="dataset", parent_commit=info.sha
        )
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot be the name of a data set, write user/name: {error}") from None
    except OfflineModeIsEnabled:
        raise OSError(f"{repo_id} was not pushed because HF_HUB_OFFLINE is set: unset it") from None
    except HfHubHTTPError as error:
        advice = ADVICE.get(error.response.status_code, "the Hub refused {}").format(repo_id)
        raise OSError(f"{repo_id} was not pushed: {advice} ({error})") from error
    except (HTTPError, RuntimeError) as error:  # RuntimeError: the upload of a large file failed
        raise OSError(f"{repo_id} was not pushed: {api.endpoint} cannot be reached, push again ({error})") from error
    return commit.commit_url
